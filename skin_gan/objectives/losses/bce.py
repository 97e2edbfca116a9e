"""Binary cross-entropy (Goodfellow 2014, arXiv 1406.2661), with the generator's non-saturating loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from skin_gan.config import LossSettings
from skin_gan.objectives import mean

PAIRED = False


def d_loss(real: Tensor, fakes: list[Tensor], s: LossSettings) -> Tensor:
    """The loss on logits [N] of real images and of each kind of generated ones, with equal weights."""
    return cross_entropy(real, s.real_label) + mean([cross_entropy(fake, s.fake_label) for fake in fakes])


def g_loss(fake: Tensor, real: Tensor, s: LossSettings) -> Tensor:
    """The loss on logits [N] of generated images; `real` is not used."""
    return cross_entropy(fake, 1.0)


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    """Mean cross-entropy of sigmoid(logits) [N] with one target, such as 1 or a smoothed 0.95."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
