"""One update of the networks per family: discriminators, then generator (and encoder).

Nothing here waits for the device, and nothing draws from torch's global generator: a step is determined by
the networks, the optimisers, the real images and an `Rng`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from skin_gan.augment import diffaugment, dihedral
from skin_gan.config import OptimSettings, TrialSettings
from skin_gan.losses import adversarial, image_distance, latent_distance, zero_outputs

Scalars = dict[str, Tensor]
Step = Callable[
    [Mapping[str, nn.Module], Optimizer, Optimizer, Callable[[], Tensor], TrialSettings, "Rng", Accelerator],
    Scalars,
]


class Rng:
    """The random numbers of a training: one stream for all processes, of which each keeps its share.

    Every process draws the numbers of the whole batch and keeps rows rank, rank + world, ..., so k processes
    with batch b/k see what one process with batch b sees.
    """

    def __init__(self, seed: int, rank: int = 0, world: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank, self.world = rank, world
        self.generator = torch.Generator(device).manual_seed(seed)

    def normal(self, n: int, *shape: int) -> Tensor:
        """This process's [n, *shape] of N(0,1)."""
        return self._share(torch.randn, n, shape)

    def uniform(self, n: int, *shape: int) -> Tensor:
        """This process's [n, *shape], uniform in [0,1)."""
        return self._share(torch.rand, n, shape)

    def _share(self, draw: Callable[..., Tensor], n: int, shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        return draw(n * self.world, *shape, generator=self.generator, device=device)[self.rank :: self.world]

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"].cpu())


def make_optimiser(parameters: Iterable[nn.Parameter], o: OptimSettings, lr: float) -> Optimizer:
    """Adam or SGD (momentum beta1) with torch's fused update, the fastest on CPUs and GPUs alike."""
    if o.name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=o.beta1, fused=True)
    return torch.optim.Adam(parameters, lr=lr, betas=(o.beta1, o.beta2), fused=True)


@torch.no_grad()
def sample(generator: nn.Module, z: Tensor) -> Tensor:
    """uint8 images [N,3,S,S] of the latents z [N,latent], in evaluation mode."""
    was_training = generator.training
    images = generator.eval()(z)
    generator.train(was_training)
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def dcgan_step(
    nets: Mapping[str, nn.Module],
    opt_g: Optimizer,
    opt_d: Optimizer,
    draw: Callable[[], Tensor],
    s: TrialSettings,
    rng: Rng,
    accelerator: Accelerator,
) -> Scalars:
    """The discriminator `d_steps` times on real and generated images, then the generator once (Radford 2016).

    As in PyTorch's example the generator learns from the images that the discriminator saw last, and batch
    normalisation sees real and generated images apart. `draw` gives this process's [n,3,S,S] in [-1,1].
    """
    generator, discriminator = nets["generator"], nets["discriminator"]
    for remaining in reversed(range(s.optim.d_steps)):
        real = real_batch(draw, s, rng)
        with accelerator.autocast():
            with torch.set_grad_enabled(remaining == 0):
                fake = generator(rng.normal(len(real), s.model.latent))
            shown = [view(images, s, rng) for images in (real, fake.detach())]
            on_real, on_fake = each(discriminator, s.model.d_norm, *shown)
        loss_d = discriminator_loss(on_real, [on_fake], s, rng)
        grad_d = update(loss_d, opt_d, s, accelerator)
    with frozen(discriminator), accelerator.autocast():
        judged = accelerator.unwrap_model(discriminator)(view(fake, s, rng))
    loss_g = fooling([judged])
    grad_g = update(loss_g, opt_g, s, accelerator)
    return detached(
        loss_d=loss_d,
        loss_g=loss_g,
        grad_d=grad_d,
        grad_g=grad_g,
        d_real=confidence(on_real),
        d_fake=confidence(on_fake),
    )


def aegan_step(
    nets: Mapping[str, nn.Module],
    opt_g: Optimizer,
    opt_d: Optimizer,
    draw: Callable[[], Tensor],
    s: TrialSettings,
    rng: Rng,
    accelerator: Accelerator,
) -> Scalars:
    """Both discriminators `d_steps` times, then generator and encoder once (Lazarou 2020, section 3).

    Dx tells x from G(z) and G(E(x)), Dz tells z from E(x) and E(G(z)); G and E fool both, and each undoes the
    other. As in `dcgan_step`, G and E learn from what the discriminators saw last.
    """
    for remaining in reversed(range(s.optim.d_steps)):
        x = real_batch(draw, s, rng)
        with accelerator.autocast(), torch.set_grad_enabled(remaining == 0):
            cycles = both_cycles(nets, x, rng.normal(len(x), s.model.latent), s)
        seen = train_aegan_discriminators(nets, opt_d, cycles, s, rng, accelerator)
    lo, d_norm = s.loss, s.model.d_norm
    dx, dz = nets["discriminator"], nets["latent_discriminator"]
    with frozen(dx, dz), accelerator.autocast():
        shown = [view(images, s, rng) for images in (cycles.generated, cycles.reconstructed)]
        judged_x = each(accelerator.unwrap_model(dx), d_norm, *shown)
        judged_z = each(accelerator.unwrap_model(dz), d_norm, cycles.encoded, cycles.recovered)
    cycle_x = image_distance(cycles.x, cycles.reconstructed)
    cycle_z = latent_distance(cycles.z, cycles.recovered)
    loss_g = lo.image * cycle_x + lo.latent * cycle_z
    loss_g = loss_g + lo.adversarial_image * fooling(judged_x) + lo.adversarial_latent * fooling(judged_z)
    grad_g = update(loss_g, opt_g, s, accelerator)
    made = detached(loss_g=loss_g, grad_g=grad_g, reconstruction_image=cycle_x, reconstruction_latent=cycle_z)
    return {**seen, **made}


class Cycles(NamedTuple):
    """AEGAN's two ways round: z -> x -> z and x -> z -> x, of images [N,3,S,S] and latents [N,latent]."""

    x: Tensor
    z: Tensor
    encoded: Tensor  # E(x)
    generated: Tensor  # G(z)
    reconstructed: Tensor  # G(E(x))
    recovered: Tensor  # E(G(z))


def both_cycles(nets: Mapping[str, nn.Module], x: Tensor, z: Tensor, s: TrialSettings) -> Cycles:
    """Where real images `x` and random latents `z` lead."""
    encoded = nets["encoder"](x)
    generated, reconstructed = each(nets["generator"], s.model.norm, z, encoded)
    return Cycles(x, z, encoded, generated, reconstructed, nets["encoder"](generated))


def train_aegan_discriminators(
    nets: Mapping[str, nn.Module],
    opt_d: Optimizer,
    c: Cycles,
    s: TrialSettings,
    rng: Rng,
    accelerator: Accelerator,
) -> Scalars:
    """One update of both discriminators; what they made of the batch before it."""
    with accelerator.autocast():
        images = [view(v.detach(), s, rng) for v in (c.x, c.generated, c.reconstructed)]
        on_x, *on_fake_x = each(nets["discriminator"], s.model.d_norm, *images)
        latents = [v.detach() for v in (c.z, c.encoded, c.recovered)]
        on_z, *on_fake_z = each(nets["latent_discriminator"], s.model.d_norm, *latents)
    loss_dx = discriminator_loss(on_x, on_fake_x, s, rng)
    loss_dz = discriminator_loss(on_z, on_fake_z, s, rng)
    grad_d = update(loss_dx + loss_dz, opt_d, s, accelerator)
    return detached(
        loss_d=loss_dx + loss_dz,
        loss_dx=loss_dx,
        loss_dz=loss_dz,
        grad_d=grad_d,
        d_real=confidence(on_x),
        d_fake=confidence(on_fake_x[0]),
        d_reconstructed=confidence(on_fake_x[1]),
        dz_real=confidence(on_z),
        dz_encoded=confidence(on_fake_z[0]),
    )


STEPS: dict[str, Step] = {"dcgan": dcgan_step, "aegan": aegan_step}


def real_batch(draw: Callable[[], Tensor], s: TrialSettings, rng: Rng) -> Tensor:
    """The next real images, in any of their eight orientations where augmentation is on."""
    x = draw()
    return x if s.train.augment == "none" else dihedral(x, rng.uniform(len(x)))


def view(images: Tensor, s: TrialSettings, rng: Rng) -> Tensor:
    """What the image discriminator is shown of images, real or generated."""
    if s.train.augment == "diffaugment":
        images = diffaugment(images, rng.uniform(len(images), 4))
    if s.loss.input_noise:
        images = images + s.loss.input_noise * rng.normal(*images.shape)
    return images


def each(net: nn.Module, norm: str, *batches: Tensor) -> list[Tensor]:
    """`net` of each batch: in one pass, which is faster, unless batch normalisation would then mix them."""
    if norm == "batch":
        return [net(batch) for batch in batches]
    return list(net(torch.cat(batches)).split([len(batch) for batch in batches]))


def discriminator_loss(real: Tensor, fakes: list[Tensor], s: TrialSettings, rng: Rng) -> Tensor:
    """Cross-entropy on the logits [N] of real and of each kind of generated; both sides weigh the same."""

    def loss(logits: Tensor, label: float) -> Tensor:
        if s.loss.zero_outputs:
            logits = zero_outputs(logits, rng.uniform(len(logits)), s.loss.zero_outputs)
        return adversarial(logits, label)

    return loss(real, s.loss.real_label) + mean([loss(fake, s.loss.fake_label) for fake in fakes])


def update(loss: Tensor, optimiser: Optimizer, s: TrialSettings, accelerator: Accelerator) -> Tensor:
    """One step down the gradient of `loss`, clipped where that is set; returns the gradient's norm before."""
    optimiser.zero_grad()
    accelerator.backward(loss)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if s.optim.clip:
        nn.utils.clip_grads_with_norm_(parameters, s.optim.clip, norm)
    optimiser.step()
    return norm


@contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """Within, what is computed with `nets` has gradients to its inputs, but none to their weights."""
    for net in nets:
        net.requires_grad_(False)
    try:
        yield
    finally:
        for net in nets:
            net.requires_grad_(True)


def fooling(judged: list[Tensor]) -> Tensor:
    """The generator's loss: cross-entropy of the logits [N] of each kind of generated with "real"."""
    return mean([adversarial(logits, 1.0) for logits in judged])


def mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean()


def detached(**scalars: Tensor) -> Scalars:
    return {name: value.detach() for name, value in scalars.items()}


def confidence(logits: Tensor) -> Tensor:
    """Mean probability of being real, of logits [N]."""
    return logits.detach().float().sigmoid().mean()
