"""The moving average of a generator's weights, which gives better images than the weights themselves."""

from __future__ import annotations

import copy

import torch
from torch import nn

RAMP_UP = 0.05  # largest half-life, as a share of the images shown so far


def decay(shown: int, total: int, half_life: float) -> float:
    """The weight 0..1 of the old average after `shown` more real images, `total` in all.

    `half_life` is in images. It is limited in proportion to `total`, so that the first, bad weights are soon
    forgotten (as in StyleGAN2, Karras 2020). With a half-life of 0 there is no average: the decay is 0.
    """
    half_life = min(half_life, RAMP_UP * total)
    return 0.5 ** (shown / half_life) if half_life > 0 else 0.0


class Ema:
    """A copy of a network whose parameters are moving averages of the original's. Buffers are copied."""

    def __init__(self, net: nn.Module, half_life: float) -> None:
        self.half_life = half_life  # images
        self.net = copy.deepcopy(net).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, net: nn.Module, shown: int, total: int) -> None:
        """Add the weights of `net` to the average, after `shown` more images, `total` in all."""
        weight = 1.0 - decay(shown, total, self.half_life)
        for average, parameter in zip(self.net.parameters(), net.parameters(), strict=True):
            average.lerp_(parameter, weight)
        # Batch normalisation's running statistics are averages already.
        for copied, buffer in zip(self.net.buffers(), net.buffers(), strict=True):
            copied.copy_(buffer)
