"""The hinge loss (Lim and Ye 2017, arXiv 1705.02894): real logits are to be above 1, fake ones below -1."""

from __future__ import annotations

from torch import Tensor

from skin_gan.config import LossSettings
from skin_gan.objectives import mean

PAIRED = False


def d_loss(real: Tensor, fakes: list[Tensor], s: LossSettings) -> Tensor:
    """The loss on logits [N] of real images and of each kind of generated ones."""
    return (1 - real).relu().mean() + mean([(1 + fake).relu().mean() for fake in fakes])


def g_loss(fake: Tensor, real: Tensor, s: LossSettings) -> Tensor:
    """The loss on logits [N] of generated images; `real` is not used."""
    return -fake.mean()
