"""WGAN-GP's gradient penalty (Gulrajani 2017, arXiv 1704.00028): norm 1 between real and generated images.

The paper advises against batch normalisation with it: model.d_norm=layer or none.
"""

from __future__ import annotations

from torch import Tensor

from skin_gan.objectives import Judged, mean, squared_gradients

NEEDS = "gradients"


def penalty(judged: Judged) -> Tensor:
    return mean([_between(judged, fake) for fake in judged.fakes])


def _between(judged: Judged, fake: Tensor) -> Tensor:
    """(|gradient| - 1)^2 at mixtures of real and generated images, one for each pair."""
    mixed = judged.real.detach().lerp(fake.detach(), judged.uniform.view(-1, 1, 1, 1)).requires_grad_()
    norms = squared_gradients(judged.net(mixed), mixed).clamp(min=1e-12).sqrt()
    return (norms - 1).square().mean()
