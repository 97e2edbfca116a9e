"""A generator that grows by doubling its resolution while it trains (`model.growth`), for every GAN.

fade: progressive growing (Karras 2018, arXiv 1710.10196). Each level has its own layer of colours, which
takes over from that of the level before. skip: the colours of all levels are added up (Karras 2020, arXiv
1912.04958), and those of a new level are 0 at first, so that nothing has to be faded in.

The discriminator is never rebuilt. It is shown the images of a level at full size, with pixels repeated, and
real images after the same reduction.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.config import ModelSettings, TrainSettings
from skin_gan.families.blocks import SMALLEST, has_bias, initialise, normalise, raw_weight, upsample, widths
from skin_gan.fast.convolutions import ConvTranspose2d

FADED = 0.5  # the part of a level's time in which it takes over


class GrowingGenerator(nn.Module):
    """z [N,latent] -> images [N,3,size,size] in [-1,1], with the detail of the level that is reached."""

    reached: Tensor  # levels passed, such as 2.25; the integer part is the present one, from 0

    def __init__(self, m: ModelSettings) -> None:
        super().__init__()
        channels, bias = [*widths(m), max(4, m.base // 2)], has_bias(m.norm)
        self.fade = m.growth == "fade"
        self.first = (m.start_size // SMALLEST).bit_length() - 1  # the first level, in doublings of 4x4
        self.stem = nn.Sequential(
            ConvTranspose2d(m.latent, channels[0], SMALLEST, 1, 0, bias=bias),
            normalise(m.norm, channels[0]),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(upsample(m.upsampling, a, b, bias), normalise(m.norm, b), nn.ReLU(inplace=True))
            for a, b in pairwise(channels)
        )
        self.colours = nn.ModuleList(nn.Conv2d(c, 3, 1) for c in channels[self.first :])
        initialise(self)
        if not self.fade:
            for layer in self.colours[1:]:
                nn.init.zeros_(raw_weight(layer))
        self.register_buffer("reached", torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        reached = float(self.reached)
        level = int(reached)
        x = self.stem(z[:, :, None, None])
        for block in self.blocks[: self.first]:
            x = block(x)
        image = self.colours[0](x)
        for passed in range(1, level + 1):
            x = self.blocks[self.first + passed - 1](x)
            before, own = doubled(image), self.colours[passed](x)
            if not self.fade:
                image = before + own
            else:
                image = own if passed < level else before.lerp(own, faded(reached))
        return repeated(image.tanh(), 2 ** (len(self.colours) - 1 - level))


def reached(m: ModelSettings, t: TrainSettings, images: int) -> float:
    """Levels passed after so many real images, at most all: `train.level_kimg` each."""
    levels = (m.size // m.start_size).bit_length() - 1
    return min(float(levels + FADED), images / (1000 * t.level_kimg))


def faded(reached: float) -> float:
    """How far the present level has taken over, 0 to 1."""
    return min(1.0, reached % 1 / FADED)


def reduced(x: Tensor, m: ModelSettings, levels: float) -> Tensor:
    """Real images [N,3,size,size] with the detail that the generator has: averaged, then repeated."""
    factor = m.size // m.start_size // 2 ** int(levels)
    if m.growth == "fade" and levels >= 1 and (weight := faded(levels)) < 1:
        return at_factor(x, 2 * factor).lerp(at_factor(x, factor), weight)
    return at_factor(x, factor)


def at_factor(x: Tensor, factor: int) -> Tensor:
    return repeated(F.avg_pool2d(x, factor), factor) if factor > 1 else x


def repeated(x: Tensor, factor: int) -> Tensor:
    """[N,C,H,W] -> [N,C,H*factor,W*factor], each pixel a square."""
    return F.interpolate(x, scale_factor=float(factor)) if factor > 1 else x


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
