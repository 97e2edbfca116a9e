"""The parts of the families' steps.

No function waits for the device or draws from torch's global generator: a step is determined by its context.
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
from skin_gan.objectives.mode_seeking import mode_seeking
from skin_gan.projected import Projected
from skin_gan.rng import Rng
from skin_gan.variants import AUGMENTATIONS, LOSSES, PENALTIES, names, variant

Scalars = dict[str, Tensor]
KEPT = 0.99  # decay of the moving averages of logits per update, as in LeCam's paper


@dataclass
class Context:
    """The inputs of a step, and the state that it keeps for the next one."""

    nets: Mapping[str, nn.Module]
    opt_g: Optimizer  # of the generator and the networks trained with it
    opt_d: Optimizer  # of the networks with "discriminator" in their names
    draw: Callable[[], Tensor]  # the next real images, this process's [n,3,S,S] in [-1,1]
    settings: TrialSettings
    rng: Rng
    accelerator: Accelerator
    images: int = 0  # real images drawn so far, over all processes
    # The step's own state, such as moving averages: tensors, numbers and strings in dicts and lists.
    # Checkpoints restore it bit for bit.
    state: dict[str, Any] = field(default_factory=dict)


Step = Callable[[Context], Scalars]


def make_optimiser(parameters: Iterable[nn.Parameter], o: OptimSettings, lr: float) -> Optimizer:
    """Adam or SGD (momentum beta1) with torch's fused update, the fastest on CPUs and GPUs."""
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
    """The next real images, augmented and counted in `c.images`, by which a growing generator grows."""
    x, s = c.draw(), c.settings
    if s.model.growth != "none":
        levels = growing.reached(s.model, s.train, c.images)
        c.accelerator.unwrap_model(c.nets["generator"]).reached.fill_(levels)
        x = growing.reduced(x, s.model, levels)
    c.images += s.train.batch
    augmentation, state = augmentation_of(c)
    return augmentation.of_real(x, c.rng, state)


def view(images: Tensor, c: Context) -> Tensor:
    """Images, real or generated, as the image discriminator is shown them: augmented and with noise."""
    augmentation, state = augmentation_of(c)
    images = augmentation.of_both(images, c.rng, state)
    if c.settings.loss.input_noise:
        images = images + c.settings.loss.input_noise * c.rng.normal(*images.shape)
    return images


def augmentation_of(c: Context) -> tuple[ModuleType, dict[str, Any]]:
    """The chosen augmentation and its state."""
    return variant(AUGMENTATIONS, c.settings.train.augment), c.state.setdefault("augment", {})


Shown = Tensor | list[Tensor]  # input of a discriminator: images [N,3,S,S], or their frozen features


def show(fake: Tensor, c: Context) -> Shown:
    """The image discriminator's input for generated images in its own update.

    Frozen features keep their gradients to the images, so that `show_again` can reuse them in the generator's
    update.
    """
    net = c.accelerator.unwrap_model(c.nets["discriminator"])
    if shares_features(net, c):
        with c.accelerator.autocast():
            return net.features(view(fake, c))  # type: ignore[no-any-return]
    return view(fake.detach(), c)


def show_again(fake: Tensor, before: Shown, c: Context) -> Shown:
    """The image discriminator's input for the same images in the generator's update."""
    return before if isinstance(before, list) else view(fake, c)


def shares_features(net: nn.Module, c: Context) -> bool:
    """Whether the discriminator takes features instead of images, which no penalty of this update needs."""
    return isinstance(net, Projected) and not needed(c) & {"images", "gradients"}


def needed(c: Context) -> set[str]:
    """What the penalties of this update of the discriminator need."""
    return {penalty.NEEDS for penalty, _ in due_penalties(c)}


def forward_each(net: nn.Module, apart: bool, *batches: Shown) -> list[Tensor]:
    """The outputs of `net` for each batch.

    They are computed in one pass, which is faster, unless `apart`: for networks that mix images of a batch.
    """
    if apart:
        return [net(batch) for batch in batches]
    images = [batch for batch in batches if isinstance(batch, Tensor)]  # features are always passed apart
    return list(net(torch.cat(images)).split([len(batch) for batch in images]))


def judge(net: nn.Module, real: Tensor, fakes: Sequence[Shown], c: Context) -> Judged:
    """The discriminator's logits of real images [N,3,S,S] and of each kind of generated ones (see `show`)."""
    plain, needs = c.accelerator.unwrap_model(net), needed(c)
    detached_fakes = [x.detach() if isinstance(x, Tensor) else [part.detach() for part in x] for x in fakes]
    shown: list[Any] = [real, *detached_fakes]
    if "gradients" in needs:
        shown = [images.detach().requires_grad_() for images in shown]
    elif shares_features(plain, c):
        with c.accelerator.autocast():
            shown[0] = plain.features(real)
    with c.accelerator.autocast():
        on_real, *on_fakes = forward_each(net, mixes(c), *shown)
    augmentation, state = augmentation_of(c)
    if augmentation.ADAPTIVE:
        augmentation.adapt(c.accelerator.gather(of_image(on_real.detach())), c.images, state)
    averages = update_averages(on_real, on_fakes, c) if weights(c) else torch.zeros(2)
    uniform = c.rng.uniform(len(real)) if "gradients" in needs else torch.zeros(0)
    moves = c.rng.uniform(len(real), 3) if "images" in needs else torch.zeros(0, 3)
    return Judged(plain, shown[0], shown[1:], on_real, on_fakes, averages, uniform, moves, penalty_scale(c))


def penalty_scale(c: Context) -> float:
    """The factor of R1 and R2: 1, or as StyleGAN2-ADA sets them by resolution and batch."""
    s = c.settings
    return 0.0002 * s.model.size**2 / s.train.batch if s.loss.scale_penalties else 1.0


def mixes(c: Context) -> bool:
    """Whether the image discriminator's logits depend on the other images of a batch."""
    return c.settings.model.d_norm == "batch" or c.settings.model.discriminator != "own"


def update_averages(real: Tensor, fakes: list[Tensor], c: Context) -> Tensor:
    """[2]: moving averages of the logits of real and of generated images before this batch is added."""
    both = torch.stack([real.detach().float().mean(), mean([fake.detach().float().mean() for fake in fakes])])
    now = c.accelerator.reduce(both, "mean")
    before = c.state.get("logits", now)
    c.state["logits"] = before.lerp(now, 1 - KEPT)
    return before


def discriminator_loss(real: Tensor, fakes: list[Tensor], c: Context) -> Tensor:
    """The discriminator's loss on logits [N] of real inputs and of each kind of generated ones."""
    real, *fakes = (zero_outputs(logits.float(), c) for logits in (real, *fakes))
    return loss_of(c).d_loss(real, fakes, c.settings.loss)


def zero_outputs(logits: Tensor, c: Context) -> Tensor:
    """Logits [N] or [N,P]; each image's are set to 0 with probability `loss.zero_outputs`.

    A logit of 0 means "undecided" and gives no gradient.
    """
    if not (probability := c.settings.loss.zero_outputs):
        return logits
    zeroed = c.rng.uniform(len(logits)) < probability
    return logits.masked_fill(zeroed.view(-1, *[1] * (logits.dim() - 1)), 0.0)


def penalised(loss: Tensor, judged: Judged, c: Context) -> tuple[Tensor, Scalars]:
    """The image discriminator's loss plus penalties, and the sum of these as a scalar if there are any."""
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
    """The penalties of this update with their weights.

    Those that need more than logits are due at every `lazy`-th update, with `lazy` times the weight.
    """
    lazy = c.settings.loss.lazy
    now = c.images // c.settings.train.batch % lazy == 0
    found = [(variant(PENALTIES, name), weight) for name, weight in weights(c).items()]
    return [
        (p, weight if p.NEEDS == "logits" else weight * lazy)
        for p, weight in found
        if now or p.NEEDS == "logits"
    ]


def loss_of(c: Context) -> ModuleType:
    return variant(LOSSES, c.settings.loss.name)


def real_again(net: nn.Module, real: Shown, logits: Tensor, c: Context) -> Tensor:
    """Logits of the real images for the generator's loss.

    These are `logits`, from before the discriminator's update, or new ones by `net` if the loss is `PAIRED`.
    """
    if not loss_of(c).PAIRED:
        return logits.detach()
    with torch.no_grad(), c.accelerator.autocast():
        return net(real)


def fooling(fakes: list[Tensor], real: Tensor, c: Context) -> Tensor:
    """The generator's loss on logits [N] of each kind of generated inputs, given logits of real ones."""
    return mean([loss_of(c).g_loss(fake.float(), real.float(), c.settings.loss) for fake in fakes])


def diverse(loss: Tensor, z: Tensor, images: Tensor, c: Context) -> Tensor:
    """The generator's loss, with its mode-seeking term if that is set, for the images of z [N,latent]."""
    weight = c.settings.loss.mode_seeking
    return loss + weight * mode_seeking(z, images) if weight else loss


def update(loss: Tensor, optimiser: Optimizer, c: Context) -> Tensor:
    """One optimiser step, with clipping if it is set; returns the norm of the unclipped gradient."""
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
    """Within the block `nets` pass gradients to their inputs, but get none for their weights."""
    trained = [p for net in nets for p in net.parameters() if p.requires_grad]  # others stay frozen
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
    """The mean probability of being real for logits [N]."""
    return logits.detach().float().sigmoid().mean()
