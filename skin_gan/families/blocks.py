"""Layers that the families share: normalisation, upsampling, widths, initial weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.fast.convolutions import Conv2d, ConvTranspose2d, add_bias, double

UPSAMPLING = ("transposed", "nearest", "bilinear", "pixelshuffle")
NORMS = ("batch", "layer", "group", "none")
D_NORMS = ("batch", "layer", "group", "spectral", "none")
SMALLEST = 4  # height and width at which the convolutions begin (generator) or end (other networks)
GROUPS = 8  # groups of GroupNorm, if they divide the channels


def check_model(m: ModelSettings) -> None:
    """SkinGanError for an unknown upsampling or normalisation, or a size that is not 8, 16, 32, ..."""
    for key, value, known in (
        ("upsampling", m.upsampling, UPSAMPLING),
        ("norm", m.norm, NORMS),
        ("d_norm", m.d_norm, D_NORMS),
    ):
        if value not in known:
            raise SkinGanError(f"model.{key}={value!r}: choose one of {', '.join(known)}")
    if m.discriminator == "auto":
        raise SkinGanError(
            "model.discriminator=auto: a launch settles it (in Python: skin_gan.pretrained.settled)"
        )
    if m.growth != "none" and m.start_size > m.size:
        raise SkinGanError(f"model.start_size={m.start_size}: expected at most model.size={m.size}")
    if m.size < 2 * SMALLEST or m.size & (m.size - 1):
        raise SkinGanError(f"model.size={m.size}: expected a power of two, at least {2 * SMALLEST}")


def widths(m: ModelSettings) -> list[int]:
    """Channels at 4x4, 8x8, ..., size/2: `base` at the last, doubled at each halving, at most 8 * base.

    At 64x64 these are Radford 2016's 8, 4, 2 and 1 times `base`; a larger size repeats the widest layer.
    """
    levels = int(math.log2(m.size // SMALLEST))
    return [m.base * min(8, 2**k) for k in reversed(range(levels))]


def normalise(kind: str, channels: int) -> nn.Module:
    """The layer that normalises [N,C,H,W]; none for "spectral", which is of weights: see `weighted`.

    "layer" normalises each image over C, H and W; "group" over groups of channels.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "layer":
        return nn.GroupNorm(1, channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
    return nn.Identity()


def has_bias(kind: str) -> bool:
    """Whether a layer before this normalisation needs a bias: the others subtract or replace it."""
    return kind in ("none", "spectral")


def weighted(layer: nn.Module, d_norm: str) -> nn.Module:
    """`layer`, for "spectral" with its weight divided by its largest singular value (Miyato 2018)."""
    return spectral_norm(layer) if d_norm == "spectral" else layer


def upsample(kind: str, c_in: int, c_out: int, bias: bool) -> nn.Module:
    """[N,c_in,H,W] -> [N,c_out,2H,2W], with learned weights."""
    if kind == "transposed":
        return ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=bias)
    if kind == "nearest":
        return NearestConv2d(c_in, c_out, 3, 1, 1, bias=bias)
    if kind == "bilinear":
        larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        return nn.Sequential(larger, Conv2d(c_in, c_out, 3, 1, 1, bias=bias))
    return nn.Sequential(SubPixelConv2d(c_in, 4 * c_out, 3, 1, 1, bias=bias), nn.PixelShuffle(2))


class NearestConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution, in one operation.

    The 3x3 kernel sees the same pixel up to four times. With these weights summed beforehand, a transposed
    convolution with a 4x4 kernel gives equal results with 16 products instead of 36.
    """

    def forward(self, x: Tensor) -> Tensor:
        return add_bias(double(x, self.merged()), self.bias)

    def merged(self) -> Tensor:
        """The weight [c_in,c_out,4,4] of the equivalent transposed convolution."""
        left, centre, right = self.weight.transpose(0, 1).unbind(3)
        columns = torch.stack([right, centre + right, left + centre, left], 3)
        top, middle, bottom = columns.unbind(2)
        merged = torch.stack([bottom, middle + bottom, top + middle, top], 2)
        return merged.contiguous(memory_format=torch.channels_last)


class SubPixelConv2d(nn.Conv2d):
    """A convolution whose output goes to PixelShuffle(2)."""

    @torch.no_grad()
    def equalise(self) -> None:
        """Give the four sub-pixels equal weights, so that training starts without a checkerboard.

        ICNR (Aitken 2017, arXiv 1707.02937): at first the layer is a nearest-neighbour upsampling.
        """
        self.weight.copy_(self.weight[::4].repeat_interleave(4, dim=0))


@torch.no_grad()
def initialise(net: nn.Module) -> None:
    """Radford 2016: weights N(0, 0.02), those of normalisations N(1, 0.02), biases 0."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(raw_weight(module), 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, SubPixelConv2d):
            module.equalise()


def raw_weight(module: nn.Module) -> Tensor:
    """The trained tensor behind `module.weight`, which spectral normalisation computes from it."""
    tensors = dict(module.named_parameters())
    normalised = "parametrizations.weight.original"
    return tensors[normalised if normalised in tensors else "weight"]
