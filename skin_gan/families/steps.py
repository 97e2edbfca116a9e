"""What the steps of all families are made of.

Nothing here waits for the device, and nothing draws from torch's global generator: a step is determined by
its context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from skin_gan.config import OptimSettings, TrialSettings
from skin_gan.objectives import Judged, mean
from skin_gan.rng import Rng
from skin_gan.variants import AUGMENTATIONS, LOSSES, PENALTIES, names, variant

Scalars = dict[str, Tensor]
KEPT = 0.99  # of the moving averages of logits at each update, as in LeCam's paper


@dataclass
class Context:
    """All that a step works with, and what it leaves to the next one."""

    nets: Mapping[str, nn.Module]
    opt_g: Optimizer  # of the generator and what is trained with it
    opt_d: Optimizer  # of the networks with "discriminator" in their names
    draw: Callable[[], Tensor]  # the next real images, this process's [n,3,S,S] in [-1,1]
    settings: TrialSettings
    rng: Rng
    accelerator: Accelerator
    images: int = 0  # real images drawn so far, over all processes
    # The step's own, such as moving averages: tensors, numbers and strings in dicts and lists. Checkpoints
    # keep and restore it bit for bit.
    state: dict[str, Any] = field(default_factory=dict)


Step = Callable[[Context], Scalars]


def make_optimiser(parameters: Iterable[nn.Parameter], o: OptimSettings, lr: float) -> Optimizer:
    """Adam or SGD (momentum beta1) with torch's fused update, the fastest on CPUs and GPUs alike."""
    groups = [{"params": list(parameters)}]  # may be empty: not every family has a discriminator
    if o.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=o.beta1, fused=True)
    return torch.optim.Adam(groups, lr=lr, betas=(o.beta1, o.beta2), fused=True)


@torch.no_grad()
def sample(generator: nn.Module, z: Tensor) -> Tensor:
    """uint8 images [N,3,S,S] of the latents z [N,latent], in evaluation mode."""
    was_training = generator.training
    images = generator.eval()(z)
    generator.train(was_training)
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def real_batch(c: Context) -> Tensor:
    """The next real images, augmented; the context counts them."""
    c.images += c.settings.train.batch
    augmentation, state = augmenting(c)
    return augmentation.of_real(c.draw(), c.rng, state)


def view(images: Tensor, c: Context) -> Tensor:
    """What the image discriminator is shown of images, real or generated."""
    augmentation, state = augmenting(c)
    images = augmentation.of_both(images, c.rng, state)
    if c.settings.loss.input_noise:
        images = images + c.settings.loss.input_noise * c.rng.normal(*images.shape)
    return images


def augmenting(c: Context) -> tuple[ModuleType, dict[str, Any]]:
    """The augmentation that is set, and the state that it keeps."""
    return variant(AUGMENTATIONS, c.settings.train.augment), c.state.setdefault("augment", {})


def each(net: nn.Module, norm: str, *batches: Tensor) -> list[Tensor]:
    """`net` of each batch: in one pass, which is faster, unless batch normalisation would then mix them."""
    if norm == "batch":
        return [net(batch) for batch in batches]
    return list(net(torch.cat(batches)).split([len(batch) for batch in batches]))


def judge(net: nn.Module, real: Tensor, fakes: list[Tensor], c: Context) -> Judged:
    """Show real images and each kind of generated ones, [N,3,S,S] without gradients, to a discriminator."""
    if second := any(penalty.SECOND_ORDER for penalty, _ in due_penalties(c)):
        real, *fakes = (images.detach().requires_grad_() for images in (real, *fakes))
    with c.accelerator.autocast():
        on_real, *on_fakes = each(net, c.settings.model.d_norm, real, *fakes)
    augmentation, state = augmenting(c)
    if augmentation.ADAPTIVE:
        augmentation.adapt(c.accelerator.gather(on_real.detach().float()), c.images, state)
    averages = averaged(on_real, on_fakes, c) if weights(c) else torch.zeros(2)
    uniform = c.rng.uniform(len(real)) if second else torch.zeros(0)
    return Judged(c.accelerator.unwrap_model(net), real, fakes, on_real, on_fakes, averages, uniform)


def averaged(real: Tensor, fakes: list[Tensor], c: Context) -> Tensor:
    """[2]: moving averages of the logits of real and of generated images , which then take these in."""
    both = torch.stack([real.detach().float().mean(), mean([fake.detach().float().mean() for fake in fakes])])
    now = c.accelerator.reduce(both, "mean")
    before = c.state.get("logits", now)
    c.state["logits"] = before.lerp(now, 1 - KEPT)
    return before


def discriminator_loss(real: Tensor, fakes: list[Tensor], c: Context) -> Tensor:
    """The loss on the logits [N] of real things and of each kind of generated ones."""
    real, *fakes = (zero_outputs(logits.float(), c) for logits in (real, *fakes))
    return loss_of(c).d_loss(real, fakes, c.settings.loss)


def zero_outputs(logits: Tensor, c: Context) -> Tensor:
    """Logits [N], each with probability `loss.zero_outputs` 0 instead: "undecided", without a gradient."""
    probability = c.settings.loss.zero_outputs
    return logits.masked_fill(c.rng.uniform(len(logits)) < probability, 0.0) if probability else logits


def penalised(loss: Tensor, judged: Judged, c: Context) -> tuple[Tensor, Scalars]:
    """The image discriminator's loss with its penalties, and these as a scalar where there are any."""
    if not weights(c):
        return loss, {}
    terms = [weight * penalty.penalty(judged) for penalty, weight in due_penalties(c)]
    total = torch.stack(terms).sum() if terms else torch.zeros_like(loss)
    return loss + total, {"penalty": total}


def weights(c: Context) -> dict[str, float]:
    """The penalties in use, by name, with their weights."""
    found = {name: getattr(c.settings.loss, name) for name in names(PENALTIES)}
    return {name: weight for name, weight in found.items() if weight}


def due_penalties(c: Context) -> list[tuple[ModuleType, float]]:
    """Those of this discriminator update, with weights: of second order at every `lazy`-th, as much more."""
    lazy = c.settings.loss.lazy
    now = c.images // c.settings.train.batch % lazy == 0
    found = [(variant(PENALTIES, name), weight) for name, weight in weights(c).items()]
    return [
        (p, weight * lazy if p.SECOND_ORDER else weight) for p, weight in found if now or not p.SECOND_ORDER
    ]


def loss_of(c: Context) -> ModuleType:
    return variant(LOSSES, c.settings.loss.name)


def real_again(net: nn.Module, real: Tensor, logits: Tensor, c: Context) -> Tensor:
    """Logits [N] of the real images `real` beside which the generator's images are judged.

    Those that the discriminator gave them before its update, `logits`, or, where the loss depends on them,
    new ones by `net`.
    """
    if not loss_of(c).PAIRED:
        return logits.detach()
    with torch.no_grad(), c.accelerator.autocast():
        return net(real)


def fooling(fakes: list[Tensor], real: Tensor, c: Context) -> Tensor:
    """The generator's loss on the logits [N] of each kind of generated things, beside those of real ones."""
    return mean([loss_of(c).g_loss(fake.float(), real.float(), c.settings.loss) for fake in fakes])


def update(loss: Tensor, optimiser: Optimizer, c: Context) -> Tensor:
    """One step down the gradient of `loss`, clipped where that is set; returns the gradient's norm before."""
    optimiser.zero_grad()
    c.accelerator.backward(loss)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if c.settings.optim.clip:
        nn.utils.clip_grads_with_norm_(parameters, c.settings.optim.clip, norm)
    optimiser.step()
    return norm


@contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """Within, what is computed with `nets` has gradients to its inputs, but none to their weights."""
    trained = [p for net in nets for p in net.parameters() if p.requires_grad]  # others are always frozen
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)


def detached(**scalars: Tensor) -> Scalars:
    return {name: value.detach() for name, value in scalars.items()}


def confidence(logits: Tensor) -> Tensor:
    """Mean probability of being real, of logits [N]."""
    return logits.detach().float().sigmoid().mean()
