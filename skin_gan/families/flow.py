"""Flow matching (Lipman 2023, arXiv 2210.02747): no GAN, but the reference that every reader asks for.

A small U-Net learns the velocity that carries noise to images along straight lines; to generate is to take
some steps along it. `model.latent` is the noise: a number for each of 3 * size * size values. `model.base` is
the channels at full resolution; there are 2, 3 and 4 times as many at each halving. The settings of losses
and discriminators have no effect.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.families.steps import Context, Scalars, detached, real_batch, update, view

STEPS = 8  # of the midpoint rule, from noise to an image: twice as many passes
WIDTHS = (1, 2, 3, 4)  # channels at size, size/2, size/4, size/8, in `base`


class Generator(nn.Module):
    """Noise z [N,3*size*size] -> images [N,3,size,size] in [-1,1].

    With times t [N] it gives the velocities of images z [N,3,size,size] instead: what is trained.
    """

    def __init__(self, m: ModelSettings) -> None:
        super().__init__()
        self.size, self.velocity = m.size, UNet(m.base)

    def forward(self, z: Tensor, t: Tensor | None = None) -> Tensor:
        if t is not None:
            return self.velocity(z, t)  # type: ignore[no-any-return]
        x, h = z.view(-1, 3, self.size, self.size), 1 / STEPS
        for start in torch.arange(STEPS, device=x.device).expand(len(x), STEPS).unbind(1):
            middle = x + h / 2 * self.velocity(x, start * h)
            x = x + h * self.velocity(middle, (start + 0.5) * h)
        return x.clamp(-1, 1)


class UNet(nn.Module):
    """Images [N,3,H,W] at times [N] in [0,1] -> velocities [N,3,H,W]."""

    def __init__(self, base: int) -> None:
        super().__init__()
        channels, time = [base * w for w in WIDTHS], 4 * base
        self.base = base
        self.time = nn.Sequential(nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time))
        self.enter = nn.Conv2d(3, base, 3, padding=1)
        self.down = nn.ModuleList(Block(a, b, time) for a, b in pairwise([base, *channels]))
        self.middle = Block(channels[-1], channels[-1], time)
        self.up = nn.ModuleList(
            Block(a + skip, skip, time)
            for a, skip in zip([channels[-1], *channels[:0:-1]], channels[::-1], strict=True)
        )
        self.leave = nn.Sequential(nn.GroupNorm(8, base), nn.SiLU(), silent(nn.Conv2d(base, 3, 3, padding=1)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time, x, skips = self.time(frequencies(t, self.base)), self.enter(x), []
        for depth, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if depth else x, time)
            skips.append(x)
        x = self.middle(x, time)
        for depth, block in enumerate(self.up):
            x = F.interpolate(x, scale_factor=2.0) if depth else x
            x = block(torch.cat([x, skips.pop()], dim=1), time)
        return self.leave(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """A residual block that knows the time: [N,c_in,H,W] and [N,time] -> [N,c_out,H,W]."""

    def __init__(self, c_in: int, c_out: int, time: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1))
        self.time = nn.Linear(time, c_out)
        last = silent(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.second = nn.Sequential(nn.GroupNorm(8, c_out), nn.SiLU(), last)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.skip(x) + self.second(self.first(x) + self.time(time)[:, :, None, None])


def silent(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that gives 0 at first: its block begins as the identity."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def frequencies(t: Tensor, n: int) -> Tensor:
    """Times [N] in [0,1] as cosines and sines [N,n] of n/2 frequencies (Vaswani 2017)."""
    rates = torch.exp(torch.linspace(0, math.log(1000.0), n // 2, device=t.device))
    angles = t[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def build(m: ModelSettings) -> nn.ModuleDict:
    """The generator, with fresh weights from torch's global generator."""
    if m.latent != 3 * m.size**2:
        raise SkinGanError(
            f"model.latent={m.latent}: a flow's noise has a number for each value of an image, expected "
            f"{3 * m.size**2} at {m.size} pixels"
        )
    if m.base % 8:
        raise SkinGanError(
            f"model.base={m.base}: expected a multiple of 8, the groups of a flow's normalisation"
        )
    return nn.ModuleDict({"generator": Generator(m)})


def step(c: Context) -> Scalars:
    """One update: the velocity between noise and image is their difference (Lipman 2023, eq. 23)."""
    images = view(real_batch(c), c)
    noise, t = c.rng.normal(*images.shape), c.rng.uniform(len(images))
    at = t.view(-1, 1, 1, 1)
    with c.accelerator.autocast():
        velocity = c.nets["generator"](noise.lerp(images, at), t)
    loss = F.mse_loss(velocity.float(), images - noise)
    return detached(loss_g=loss, grad_g=update(loss, c.opt_g, c))
