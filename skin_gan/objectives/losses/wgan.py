"""Wasserstein's distance by a critic (Arjovsky 2017, arXiv 1701.07875). It needs a penalty: loss.gp=10."""

from __future__ import annotations

from torch import Tensor

from skin_gan.config import LossSettings
from skin_gan.objectives import mean

PAIRED = False


def d_loss(real: Tensor, fakes: list[Tensor], s: LossSettings) -> Tensor:
    """The loss on the critic's values [N] of real images and of each kind of generated ones."""
    return mean([fake.mean() for fake in fakes]) - real.mean()


def g_loss(fake: Tensor, real: Tensor, s: LossSettings) -> Tensor:
    """The loss on the critic's values [N] of generated images; `real` is not used."""
    return -fake.mean()
