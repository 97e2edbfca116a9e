"""DCGAN (Radford, Metz and Chintala 2016, arXiv 1511.06434), as in the official PyTorch example.

With size 64, base 64 and latent 100 the two networks have that example's 3,576,704 and 2,765,568 parameters.
Other sizes have more or fewer layers; all other differences are settings. The losses' settings for AEGAN
(`image`, `latent`, `adversarial_image`, `adversarial_latent`) have no effect.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from skin_gan.config import ModelSettings
from skin_gan.families import steps
from skin_gan.families.blocks import has_bias, initialise, normalise, upsample, weighted, widths
from skin_gan.families.steps import Context, Scalars
from skin_gan.fast.convolutions import Conv2d, ConvTranspose2d


class Generator(nn.Module):
    """z [N,latent] -> images [N,3,size,size] in [-1,1]."""

    def __init__(self, m: ModelSettings) -> None:
        super().__init__()
        channels, bias = widths(m), has_bias(m.norm)
        layers: list[nn.Module] = [ConvTranspose2d(m.latent, channels[0], 4, 1, 0, bias=bias)]
        layers += [normalise(m.norm, channels[0]), nn.ReLU(inplace=True)]
        for c_in, c_out in pairwise(channels):
            layers += [upsample(m.upsampling, c_in, c_out, bias)]
            layers += [normalise(m.norm, c_out), nn.ReLU(inplace=True)]
        layers += [upsample(m.upsampling, channels[-1], 3, bias), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])


class Discriminator(nn.Module):
    """Images [N,3,size,size] in [-1,1] -> logits [N]; its sigmoid is the probability of being real."""

    def __init__(self, m: ModelSettings) -> None:
        super().__init__()
        channels, bias = widths(m)[::-1], has_bias(m.d_norm)
        layers = [weighted(Conv2d(3, channels[0], 4, 2, 1, bias=bias), m.d_norm)]
        layers += [nn.LeakyReLU(0.2, inplace=True)]
        for c_in, c_out in pairwise(channels):
            layers += [weighted(Conv2d(c_in, c_out, 4, 2, 1, bias=bias), m.d_norm)]
            layers += [normalise(m.d_norm, c_out), nn.LeakyReLU(0.2, inplace=True)]
        layers += [weighted(Conv2d(channels[-1], 1, 4, 1, 0, bias=bias), m.d_norm)]
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten()


def build(m: ModelSettings) -> nn.ModuleDict:
    """The two networks, with fresh weights from torch's global generator."""
    return nn.ModuleDict({"generator": Generator(m), "discriminator": Discriminator(m)})


def step(c: Context) -> Scalars:
    """Update the discriminator `d_steps` times, then the generator once (Radford 2016).

    As in PyTorch's example the generator learns from the discriminator's last batch, and batch normalisation
    sees real and generated images separately.
    """
    s, generator, discriminator = c.settings, c.nets["generator"], c.nets["discriminator"]
    for remaining in reversed(range(s.optim.d_steps)):
        real = steps.real_batch(c)
        z = c.rng.normal(len(real), s.model.latent)
        with c.accelerator.autocast(), torch.set_grad_enabled(remaining == 0):
            fake = generator(z)
        real_view, shown = steps.view(real, c), steps.show(fake, c)
        judged = steps.judge(discriminator, real_view, [shown], c)
        loss_d = steps.discriminator_loss(judged.on_real, judged.on_fakes, c)
        loss, penalty = steps.penalised(loss_d, judged, c)
        grad_d = steps.update(loss, c.opt_d, c)
    plain = c.accelerator.unwrap_model(discriminator)
    with steps.frozen(discriminator), c.accelerator.autocast():
        on_fake = plain(steps.show_again(fake, shown, c))
    loss_g = steps.fooling([on_fake], steps.real_again(plain, judged.real, judged.on_real, c), c)
    grad_g = steps.update(steps.diverse(loss_g, z, fake, c), c.opt_g, c)
    return steps.detached(
        loss_d=loss_d,
        loss_g=loss_g,
        grad_d=grad_d,
        grad_g=grad_g,
        d_real=steps.confidence(judged.on_real),
        d_fake=steps.confidence(judged.on_fakes[0]),
        **penalty,
    )
