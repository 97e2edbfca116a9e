"""What the steps of all families are made of.

Nothing here waits for the device, and nothing draws from torch's global generator: a step is determined by
its context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from skin_gan.config import OptimSettings, TrialSettings
from skin_gan.families import growing
from skin_gan.objectives import Judged, mean, of_image
from skin_gan.projected import Projected
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
    """The next real images, augmented; the context counts them. A growing generator grows as they say."""
    x, s = c.draw(), c.settings
    if s.model.growth != "none":
        levels = growing.reached(s.model, s.train, c.images)
        c.accelerator.unwrap_model(c.nets["generator"]).reached.fill_(levels)
        x = growing.reduced(x, s.model, levels)
    c.images += s.train.batch
    augmentation, state = augmenting(c)
    return augmentation.of_real(x, c.rng, state)


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


Shown = Tensor | list[Tensor]  # to a discriminator: images [N,3,S,S], or their frozen features


def show(fake: Tensor, c: Context) -> Shown:
    """What the image discriminator is shown of generated images in its own update.

    Frozen features keep their gradients to the images, so that the generator's update need not compute them
    again: see `show_again`.
    """
    net = c.accelerator.unwrap_model(c.nets["discriminator"])
    if shares_features(net, c):
        with c.accelerator.autocast():
            return net.features(view(fake, c))  # type: ignore[no-any-return]
    return view(fake.detach(), c)


def show_again(fake: Tensor, before: Shown, c: Context) -> Shown:
    """What it is shown of the same images in the generator's update."""
    return before if isinstance(before, list) else view(fake, c)


def shares_features(net: nn.Module, c: Context) -> bool:
    """Whether features can be given instead of images: penalties of second order need the images."""
    return isinstance(net, Projected) and not second_order(c)


def second_order(c: Context) -> bool:
    """Whether a penalty on gradients is due at this update of the discriminator."""
    return any(penalty.SECOND_ORDER for penalty, _ in due_penalties(c))


def without_graph(shown: Shown) -> Shown:
    return shown.detach() if isinstance(shown, Tensor) else [x.detach() for x in shown]


def each(net: nn.Module, apart: bool, *batches: Shown) -> list[Tensor]:
    """`net` of each batch: in one pass, which is faster, unless it would mix them and has to be `apart`."""
    if apart:
        return [net(batch) for batch in batches]
    images = [batch for batch in batches if isinstance(batch, Tensor)]  # features are never of one pass
    return list(net(torch.cat(images)).split([len(batch) for batch in images]))


def judge(net: nn.Module, real: Tensor, fakes: Sequence[Shown], c: Context) -> Judged:
    """Show real images [N,3,S,S] and each kind of generated ones (see `show`) to a discriminator."""
    plain, second = c.accelerator.unwrap_model(net), second_order(c)
    shown: list[Any] = [real, *map(without_graph, fakes)]
    if second:
        shown = [images.detach().requires_grad_() for images in shown]
    elif shares_features(plain, c):
        with c.accelerator.autocast():
            shown[0] = plain.features(real)
    with c.accelerator.autocast():
        on_real, *on_fakes = each(net, mixes(c), *shown)
    augmentation, state = augmenting(c)
    if augmentation.ADAPTIVE:
        augmentation.adapt(c.accelerator.gather(of_image(on_real.detach())), c.images, state)
    averages = averaged(on_real, on_fakes, c) if weights(c) else torch.zeros(2)
    uniform = c.rng.uniform(len(real)) if second else torch.zeros(0)
    return Judged(plain, shown[0], shown[1:], on_real, on_fakes, averages, uniform)


def mixes(c: Context) -> bool:
    """Whether the image discriminator's logits depend on the other images of a batch."""
    return c.settings.model.d_norm == "batch" or c.settings.model.discriminator != "own"


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
    """Logits [N] or [N,P] with those of each image 0 instead with probability `loss.zero_outputs`.

    0 is "undecided"; no gradient comes from it.
    """
    if not (probability := c.settings.loss.zero_outputs):
        return logits
    zeroed = c.rng.uniform(len(logits)) < probability
    return logits.masked_fill(zeroed.view(-1, *[1] * (logits.dim() - 1)), 0.0)


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


def real_again(net: nn.Module, real: Shown, logits: Tensor, c: Context) -> Tensor:
    """Logits of the real images `real` beside which the generator's images are judged.

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
