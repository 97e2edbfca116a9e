"""The relativistic pairing loss (Jolicoeur-Martineau 2018, arXiv 1807.00734; R3GAN, Huang 2025).

The discriminator learns to give a real image a higher logit than the generated one paired with it, the
generator learns the reverse.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from skin_gan.config import LossSettings
from skin_gan.objectives import mean

PAIRED = True  # the generator's loss needs logits of real images by the updated discriminator


def d_loss(real: Tensor, fakes: list[Tensor], s: LossSettings) -> Tensor:
    """The loss on logits [N] of real images and of each kind of generated ones, paired in their order."""
    return mean([F.softplus(fake - real).mean() for fake in fakes])


def g_loss(fake: Tensor, real: Tensor, s: LossSettings) -> Tensor:
    """The loss on logits [N] of generated and of real images, paired in their order."""
    return F.softplus(real - fake).mean()
