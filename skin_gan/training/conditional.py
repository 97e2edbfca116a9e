"""Networks that know the class, faded in while all classes are trained, and made one class's afterwards.

Class-conditional GANs collapse on few images. Transitional training (Shahbazi 2022, arXiv 2201.06578) starts
without the class and lets its influence grow from 0 to 1 between two marks. The class changes the gain and
bias of each normalisation of the generator, and the weights of the layers that give the discriminator's
logits, which adds the projection of Miyato and Koyama (2018, arXiv 1802.05637) to them. The paper fades in a
second loss with that projection; here it is the one loss, whose projection grows.

Families take no part in it: their layers are replaced. With the class fixed each layer is an ordinary one
again, so that a trial has its family's networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.families import build
from skin_gan.families.blocks import raw_weight

SETTLING = 512  # generated images whose statistics a class's normalisations get


class ByClass(nn.Module):
    """A layer with the influence of the class on it: 0 at first, and learned."""

    faded: Tensor  # [] in 0..1, the influence that is allowed

    def __init__(self, layer: nn.Module, classes: int) -> None:
        super().__init__()
        self.layer, self.classes = layer, classes
        self.labels = torch.zeros(1, dtype=torch.long)  # [n] of the real batch, and of those made with it
        self.register_buffer("faded", torch.zeros(()))

    def labels_of(self, x: Tensor) -> Tensor:
        """[N]: the classes of a batch; where nothing is trained, all of them in turn."""
        if self.training:
            return self.labels.repeat(len(x) // len(self.labels))
        return torch.arange(len(x), device=x.device) % self.classes


class ClassNorm(ByClass):
    """A normalisation of [N,C,H,W] whose gain and bias depend on the class."""

    def __init__(self, layer: nn.BatchNorm2d | nn.GroupNorm, classes: int) -> None:
        super().__init__(layer, classes)
        self.gain, self.bias = (nn.Parameter(torch.zeros(classes, len(layer.weight))) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        labels = self.labels_of(x)
        gain, bias = ((self.faded * p[labels])[:, :, None, None].to(x.dtype) for p in (self.gain, self.bias))
        normalised: Tensor = self.layer(x)
        return normalised * (1 + gain) + bias

    def of(self, label: int) -> nn.Module:
        """The normalisation of one class."""
        gain = 1 + self.faded * self.gain[label]
        layer: Any = self.layer
        layer.weight.mul_(gain)
        layer.bias.mul_(gain).add_(self.faded * self.bias[label])
        return self.layer


class ClassLogits(ByClass):
    """A convolution to logits [N,1,H,W] whose weights depend on the class, where it is trained.

    Evaluation mode judges images of unknown class, without one. Where the weights are divided by their
    spectral norm, which is that of a vector here, those of each class are.
    """

    def __init__(self, layer: nn.Conv2d, classes: int) -> None:
        super().__init__(layer, classes)
        self.projection = nn.Parameter(torch.zeros(classes, *raw_weight(layer).shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self.layer
        weight = raw_weight(layer) + self.faded * self.training * self.projection  # [classes,C,k,k]
        if hasattr(layer, "parametrizations"):
            weight = F.normalize(weight.flatten(1)).view_as(weight)
        bias = None if layer.bias is None else layer.bias.expand(self.classes)
        logits = F.conv2d(x, weight, bias, layer.stride, layer.padding)
        return logits[torch.arange(len(x), device=x.device), self.labels_of(x)][:, None]

    def of(self, label: int) -> nn.Module:
        """The convolution of one class."""
        weight = raw_weight(self.layer)
        layer: Any = self.layer
        weight.add_(self.faded * self.projection[label])
        if hasattr(layer, "parametrizations"):  # spectral normalisation keeps the vectors of its estimate
            norm: Any = layer.parametrizations["weight"][0]
            for buffer, value in zip(norm.buffers(), (torch.ones(1), weight.flatten()), strict=True):
                buffer.copy_(F.normalize(value, dim=0))
        return self.layer


def condition(nets: nn.ModuleDict, classes: int) -> None:
    """Let the class, one of `classes`, have an influence on generator and image discriminator.

    SkinGanError if the generator has no normalisation.
    """

    def norm(m: nn.Module) -> nn.Module | None:
        return ClassNorm(m, classes) if isinstance(m, nn.BatchNorm2d | nn.GroupNorm) else None

    def logits(m: nn.Module) -> nn.Module | None:
        return ClassLogits(m, classes) if isinstance(m, nn.Conv2d) and m.out_channels == 1 else None

    if not replace(nets["generator"], norm):
        raise SkinGanError(
            "pretrain.conditional: the generator has no normalisation, by which a class acts on it: set "
            "model.norm=batch, layer or group"
        )
    if "discriminator" in nets and not replace(nets["discriminator"], logits):
        raise SkinGanError(
            "pretrain.conditional: the family's image discriminator has no convolution to logits, by which "
            "it could judge the class: set model.discriminator=projected"
        )


def replace(net: nn.Module, by: Callable[[nn.Module], nn.Module | None]) -> int:
    """Replace modules inside `net` where `by` returns another; returns their number."""
    found = [(p, name, by(m)) for p in [*net.modules()] for name, m in p.named_children()]
    changes = [(parent, name, other) for parent, name, other in found if other is not None]
    for parent, name, other in changes:
        setattr(parent, name, other)
    return len(changes)


def show(nets: Mapping[str, nn.Module], labels: Tensor, faded: float) -> None:
    """Tell the networks the classes [n] of the next batch, and how far these count."""
    for layer in (m for net in nets.values() for m in net.modules() if isinstance(m, ByClass)):
        layer.labels = labels
        layer.faded.fill_(faded)


def influence(fade: Sequence[float], images: int) -> float:
    """How far the class counts after so many real images, 0..1, faded in between two marks in kimg."""
    start, end = fade
    return min(1.0, max(0.0, (images / 1000 - start) / (end - start)))


@torch.no_grad()
def of_class(model: ModelSettings, networks: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Weights of a family's networks, which draw and judge as the conditional `networks` do for one class.

    SkinGanError if these were not trained on the class.
    """
    classes = networks["classes"]
    if label not in classes:
        raise SkinGanError(f"the pretrained networks know no class {label}: they know {', '.join(classes)}")
    with torch.random.fork_rng():
        nets = build(model)
    condition(nets, len(classes))
    for name, net in nets.items():
        net.load_state_dict(networks[name])
    replace(nets, lambda m: m.of(classes.index(label)) if isinstance(m, ClassNorm | ClassLogits) else None)
    z = torch.randn(SETTLING, model.latent, generator=torch.Generator().manual_seed(0))
    settle(nets["generator"], z)
    return {name: net.state_dict() for name, net in nets.items()}


@torch.no_grad()
def settle(generator: nn.Module, z: Tensor) -> None:
    """Give batch normalisations the statistics of the images of z [N,latent], and change no image.

    A class's images have other statistics than those of all classes, by which they were drawn until now:
    trained by itself it would otherwise lose, at the first step, what its statistics differ in.
    """

    def take(m: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and m.running_var is not None
        var, mean = torch.var_mean(inputs[0].float(), (0, 2, 3), unbiased=False)
        before, now = ((v + m.eps).sqrt() for v in (m.running_var, var))
        m.bias.add_(m.weight * (mean - m.running_mean) / before)
        m.weight.mul_(now / before)
        m.running_mean.copy_(mean)
        m.running_var.copy_(var)

    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [m.register_forward_pre_hook(take) for m in norms]
    if norms:
        generator.eval()(z)
    for hook in hooks:
        hook.remove()
