"""AEGAN (Lazarou 2020, arXiv 2004.05472): GANs on images and on latents that are each other's autoencoder.

Generator G: z -> x, encoder E: x -> z, image discriminator Dx, latent discriminator Dz. The paper leaves the
layers open; these are DCGAN's, with an upsampling that a convolution follows, and its author's dense Dz.
Penalties concern Dx.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.config import ModelSettings
from skin_gan.families import steps
from skin_gan.families.blocks import SMALLEST, has_bias, initialise, normalise, upsample, weighted, widths
from skin_gan.families.steps import Context, Scalars, Shown
from skin_gan.fast.convolutions import Conv2d, ConvTranspose2d
from skin_gan.objectives import Judged, mean
from skin_gan.projected import TAPS, feature_distance

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
        # The last layer is a convolution at full resolution, so that upsampling leaves no traces.
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


def step(c: Context) -> Scalars:
    """Update both discriminators `d_steps` times, then generator and encoder once (Lazarou 2020, section 3).

    Dx tells x from G(z) and G(E(x)), Dz tells z from E(x) and E(G(z)). G and E fool both and learn to invert
    each other. As in DCGAN's step, they learn from the last batch of the discriminators.
    """
    s = c.settings
    for remaining in reversed(range(s.optim.d_steps)):
        x = steps.real_batch(c)
        with c.accelerator.autocast(), torch.set_grad_enabled(remaining == 0):
            cycles = both_cycles(c.nets, x, c.rng.normal(len(x), s.model.latent), s.model.norm)
        judged_x, judged_z, shown, seen = train_discriminators(c, cycles)
    adversarial_x, adversarial_z = fool_both(c, cycles, judged_x, judged_z, shown)
    cycle_x = F.l1_loss(cycles.reconstructed.float(), cycles.x.float())  # L1 blurs less than L2
    cycle_z = F.mse_loss(cycles.recovered.float(), cycles.z.float())
    loss_g = s.loss.image * cycle_x + s.loss.latent * cycle_z
    if s.loss.perceptual:
        loss_g = loss_g + s.loss.perceptual * perceptual(cycles, c)
    loss_g = loss_g + s.loss.adversarial_image * adversarial_x + s.loss.adversarial_latent * adversarial_z
    grad_g = steps.update(steps.diverse(loss_g, cycles.z, cycles.generated, c), c.opt_g, c)
    made = steps.detached(
        loss_g=loss_g, grad_g=grad_g, reconstruction_image=cycle_x, reconstruction_latent=cycle_z
    )
    return {**seen, **made}


def perceptual(cycles: Cycles, c: Context) -> Tensor:
    """How far x and G(E(x)) are apart in the features of the projected discriminator: L1 alone blurs."""
    net = c.accelerator.unwrap_model(c.nets["discriminator"])
    with c.accelerator.autocast():
        pairs = zip(net.features(cycles.x), net.features(cycles.reconstructed), strict=True)
        return mean([feature_distance(a, b) for a, b in [*pairs][: len(TAPS)]])


class Cycles(NamedTuple):
    """AEGAN's two cycles z -> x -> z and x -> z -> x, of images [N,3,S,S] and latents [N,latent]."""

    x: Tensor
    z: Tensor
    encoded: Tensor  # E(x)
    generated: Tensor  # G(z)
    reconstructed: Tensor  # G(E(x))
    recovered: Tensor  # E(G(z))


def both_cycles(nets: Mapping[str, nn.Module], x: Tensor, z: Tensor, norm: str) -> Cycles:
    """Both cycles of real images `x` and random latents `z`."""
    encoded = nets["encoder"](x)
    generated, reconstructed = steps.forward_each(nets["generator"], norm == "batch", z, encoded)
    return Cycles(x, z, encoded, generated, reconstructed, nets["encoder"](generated))


def train_discriminators(c: Context, cycles: Cycles) -> tuple[Judged, list[Tensor], list[Shown], Scalars]:
    """One update of both discriminators.

    Returns the images and logits of Dx and the logits of Dz, all from before the update, the generated images
    as shown to Dx, and scalars.
    """
    x = steps.view(cycles.x.detach(), c)
    shown = [steps.show(images, c) for images in (cycles.generated, cycles.reconstructed)]
    judged = steps.judge(c.nets["discriminator"], x, shown, c)
    latents = [v.detach() for v in (cycles.z, cycles.encoded, cycles.recovered)]
    with c.accelerator.autocast():
        on_latents = steps.forward_each(
            c.nets["latent_discriminator"], c.settings.model.d_norm == "batch", *latents
        )
    loss_dx = steps.discriminator_loss(judged.on_real, judged.on_fakes, c)
    loss_dz = steps.discriminator_loss(on_latents[0], on_latents[1:], c)
    loss, penalty = steps.penalised(loss_dx + loss_dz, judged, c)
    grad_d = steps.update(loss, c.opt_d, c)
    seen = steps.detached(
        loss_d=loss_dx + loss_dz,
        loss_dx=loss_dx,
        loss_dz=loss_dz,
        grad_d=grad_d,
        d_real=steps.confidence(judged.on_real),
        d_fake=steps.confidence(judged.on_fakes[0]),
        d_reconstructed=steps.confidence(judged.on_fakes[1]),
        dz_real=steps.confidence(on_latents[0]),
        dz_encoded=steps.confidence(on_latents[1]),
        **penalty,
    )
    return judged, on_latents, shown, seen


def fool_both(
    c: Context, cycles: Cycles, judged: Judged, on_latents: list[Tensor], before: list[Shown]
) -> tuple[Tensor, Tensor]:
    """The adversarial losses of G and E on images and on latents."""
    nets = c.nets["discriminator"], c.nets["latent_discriminator"]
    dx, dz = (c.accelerator.unwrap_model(net) for net in nets)
    images = cycles.generated, cycles.reconstructed
    with steps.frozen(*nets), c.accelerator.autocast():
        shown = [steps.show_again(made, seen, c) for made, seen in zip(images, before, strict=True)]
        on_images = steps.forward_each(dx, steps.mixes(c), *shown)
        on_made = steps.forward_each(dz, c.settings.model.d_norm == "batch", cycles.encoded, cycles.recovered)
    real_x = steps.real_again(dx, judged.real, judged.on_real, c)
    real_z = steps.real_again(dz, cycles.z, on_latents[0], c)
    return steps.fooling(on_images, real_x, c), steps.fooling(on_made, real_z, c)
