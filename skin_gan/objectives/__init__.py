"""Losses, penalties and augmentations: pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Judged:
    """A discriminator's inputs and logits, from which penalties are computed.

    If a penalty on gradients is due, the images require gradients and the logits depend on them. If none is
    due that needs images, the inputs of a discriminator on frozen features may be features instead.
    """

    net: Callable[[Tensor], Tensor]  # the discriminator: images [N,3,H,W] -> logits
    real: Tensor  # [N,3,H,W] in [-1,1]
    fakes: list[Tensor]  # [N,3,H,W] of each kind of generated images
    on_real: Tensor  # logits [N], or [N,P] of P patches
    on_fakes: list[Tensor]  # such logits of each kind
    averages: Tensor  # [2]: moving averages of the logits of real and of generated images, before this batch
    uniform: Tensor  # [N], uniform in [0,1), for penalties on gradients
    moves: Tensor  # [N,3], uniform in [0,1), for penalties that show images again
    scale: float  # of R1 and R2, see `loss.scale_penalties`


def mean(values: list[Tensor]) -> Tensor:
    """The mean of 0-d tensors."""
    return torch.stack(values).mean()


def of_image(logits: Tensor) -> Tensor:
    """[N]: the logit of each image, from logits [N] or the mean of its patches' [N,P]."""
    return logits.float().view(len(logits), -1).mean(1)


def squared_gradients(logits: Tensor, images: Tensor) -> Tensor:
    """[N]: squared norm of each logit's gradient with respect to its image [N,3,H,W]; differentiable."""
    (gradient,) = torch.autograd.grad(of_image(logits).sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1)
