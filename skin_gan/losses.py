"""Losses of a GAN on logits: pure functions, tensors in, a 0-d float32 tensor out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def adversarial(logits: Tensor, target: float) -> Tensor:
    """Binary cross-entropy of sigmoid(logits) [N] with one target for all, such as 1 or a smoothed 0.95."""
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def zero_outputs(logits: Tensor, uniform: Tensor, probability: float) -> Tensor:
    """Logits [N], but 0 ("undecided", no gradient) where `uniform` [N] in [0,1) is below `probability`."""
    return logits.masked_fill(uniform < probability, 0.0)


def image_distance(images: Tensor, reconstructed: Tensor) -> Tensor:
    """Mean absolute difference of images [N,3,H,W] in [-1,1]: L1, which blurs less than L2."""
    return F.l1_loss(reconstructed.float(), images.float())


def latent_distance(latents: Tensor, recovered: Tensor) -> Tensor:
    """Mean squared difference of latents [N,latent]."""
    return F.mse_loss(recovered.float(), latents.float())
