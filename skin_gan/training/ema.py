"""The moving average of a generator's weights, which draws better images than the weights themselves."""

from __future__ import annotations

import copy

import torch
from torch import nn

RAMP_UP = 0.05  # largest half-life, as a part of the images shown so far


def decay(shown: int, total: int, half_life: float) -> float:
    """What remains of the average after `shown` more real images, `total` in all; `half_life` in images.

    The half-life grows with the training, so that the first, bad weights are soon forgotten (as in StyleGAN2,
    Karras 2020). A half-life of 0 keeps no average: the decay is 0.
    """
    half_life = min(half_life, RAMP_UP * total)
    return 0.5 ** (shown / half_life) if half_life > 0 else 0.0


class Ema:
    """A copy of a network whose parameters follow the original's slowly. Buffers are copied as they are."""

    def __init__(self, net: nn.Module, half_life: float) -> None:
        self.half_life = half_life  # images
        self.net = copy.deepcopy(net).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, net: nn.Module, shown: int, total: int) -> None:
        """Take in `net` after `shown` more images, `total` in all."""
        weight = 1.0 - decay(shown, total, self.half_life)
        for average, parameter in zip(self.net.parameters(), net.parameters(), strict=True):
            average.lerp_(parameter, weight)
        # Batch normalisation's running statistics are averages already, of the layers as they are now.
        for copied, buffer in zip(self.net.buffers(), net.buffers(), strict=True):
            copied.copy_(buffer)
