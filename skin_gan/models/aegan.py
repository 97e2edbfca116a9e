"""AEGAN (Lazarou 2020, arXiv 2004.05472): GANs on images and on latents that are each other's autoencoder.

Generator G: z -> x, encoder E: x -> z, image discriminator Dx, latent discriminator Dz. The paper leaves the
layers open; these are DCGAN's, with an upsampling that a convolution follows, and its author's dense Dz.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from skin_gan.config import ModelSettings
from skin_gan.fastconv import Conv2d, ConvTranspose2d
from skin_gan.models.blocks import SMALLEST, has_bias, initialise, normalise, upsample, weighted, widths

DENSE_LAYERS, DENSE_WIDTH = 16, 16  # of the latent discriminator, as in the author's Keras version


class Generator(nn.Module):
    """z [N,latent] -> images [N,3,size,size] in [-1,1]."""

    def __init__(self, m: ModelSettings) -> None:
        super().__init__()
        channels, bias = [*widths(m), max(4, m.base // 2)], has_bias(m.norm)
        layers: list[nn.Module] = [ConvTranspose2d(m.latent, channels[0], SMALLEST, 1, 0, bias=bias)]
        layers += [normalise(m.norm, channels[0]), nn.ReLU(inplace=True)]
        for c_in, c_out in pairwise(channels):
            layers += [upsample(m.upsampling, c_in, c_out, bias)]
            layers += [normalise(m.norm, c_out), nn.ReLU(inplace=True)]
        # Images are made at full resolution by a convolution: no upsampling has the last word on a pixel.
        layers += [Conv2d(channels[-1], 3, 3, 1, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])


def downsampling(m: ModelSettings, norm: str, outputs: int) -> nn.Sequential:
    """Images [N,3,size,size] -> [N,outputs,1,1]: stride-2 convolutions to 4x4, then one over all of it."""
    channels, bias = widths(m)[::-1], has_bias(norm)
    layers = [weighted(Conv2d(3, channels[0], 4, 2, 1), norm), nn.LeakyReLU(0.2, inplace=True)]
    for c_in, c_out in pairwise(channels):
        layers += [weighted(Conv2d(c_in, c_out, 4, 2, 1, bias=bias), norm)]
        layers += [normalise(norm, c_out), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, weighted(Conv2d(channels[-1], outputs, SMALLEST, 1, 0), norm))


class Encoder(nn.Module):
    """Images [N,3,size,size] in [-1,1] -> z [N,latent], unbounded as N(0,1) is."""

    def __init__(self, m: ModelSettings) -> None:
        super().__init__()
        self.layers = downsampling(m, m.norm, m.latent)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten(1)


class Discriminator(nn.Module):
    """Images [N,3,size,size] in [-1,1] -> logits [N]; its sigmoid is the probability of being real."""

    def __init__(self, m: ModelSettings) -> None:
        super().__init__()
        self.layers = downsampling(m, m.d_norm, 1)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten()


class LatentDiscriminator(nn.Module):
    """z [N,latent] -> logits [N]: small dense layers that each see z and all layers before them."""

    def __init__(self, m: ModelSettings) -> None:
        super().__init__()
        sizes = [m.latent + k * DENSE_WIDTH for k in range(DENSE_LAYERS + 1)]
        self.layers = nn.ModuleList(weighted(nn.Linear(n, DENSE_WIDTH), m.d_norm) for n in sizes[:-1])
        self.head = weighted(nn.Linear(sizes[-1], 1), m.d_norm)

    def forward(self, z: Tensor) -> Tensor:
        for layer in self.layers:
            z = torch.cat([z, nn.functional.leaky_relu(layer(z), 0.2)], dim=1)
        return self.head(z).flatten()


def build(m: ModelSettings) -> nn.ModuleDict:
    """The four networks, with fresh weights from torch's global generator."""
    return nn.ModuleDict(
        {
            "generator": Generator(m),
            "encoder": Encoder(m),
            "discriminator": Discriminator(m),
            "latent_discriminator": LatentDiscriminator(m),
        }
    )
