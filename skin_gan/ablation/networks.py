"""Classifiers of lesion images: a small CNN, torchvision's residual networks, a linear head on features."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from skin_gan.errors import SkinGanError

WIDTHS = (32, 64, 128, 128, 128, 128, 128)  # channels of the CNN's blocks
SMALLEST = 4  # height and width, in pixels, at which the CNN's blocks end
SMALL_INPUT = 64  # pixels: up to this size residual networks begin at full resolution


class SmallCNN(nn.Module):
    """Images float [N,3,S,S] in [-1,1] -> logits [N,K]. About 0.4 M weights at 32 pixels.

    Blocks of convolution, normalisation and pooling down to 4x4 pixels, then two dense layers.
    """

    def __init__(self, size: int, classes: int, dropout: float) -> None:
        super().__init__()
        blocks, c_in = [], 3
        for c_out in WIDTHS:
            if size < 2 * SMALLEST:
                break
            blocks += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out)]
            blocks += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            c_in, size = c_out, size // 2
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(SMALLEST), nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(c_in * SMALLEST**2, 128),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(128, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class OwnNorm(nn.Module):
    """Batch normalisation that keeps statistics and factors of its own for generated images.

    As for adversarial images (Xie 2020, arXiv:1911.09665); arXiv:2312.02253 does so for generated ones. A
    trained network uses those of photographs.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.photographs, self.made = norm, copy.deepcopy(norm)
        self.generated: Tensor | None = None  # bool [N]: which images of the coming batch are generated

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.generated is None:
            return self.photographs(x)
        out = torch.empty_like(x)
        for norm, rows in ((self.photographs, ~self.generated), (self.made, self.generated)):
            if rows.any():
                out[rows] = norm(x[rows])
        return out


def own_norms(net: nn.Module) -> list[OwnNorm]:
    """Replace the network's batch normalisations by `OwnNorm`; returns these."""
    found = []
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                found.append(OwnNorm(child))
                setattr(module, name, found[-1])
    return found


def head(features: int, classes: int) -> nn.Module:
    """Features [N,d] -> logits [N,K]: with cross entropy, multinomial logistic regression."""
    layer = nn.Linear(features, classes)
    nn.init.normal_(layer.weight, 0.0, 0.01)
    nn.init.zeros_(layer.bias)
    return layer


def residual(name: str, size: int, classes: int, pretrained: str = "") -> nn.Module:
    """torchvision's resnet18 or resnet50 (He 2016, arXiv:1512.03385) for images [N,3,S,S] in [-1,1].

    Up to 64 pixels, without pretrained weights, it begins like the paper's CIFAR networks with a 3x3
    convolution and no pooling; the usual first layers would reduce a 32x32 image to 1x1 pixel. `pretrained`:
    a file of torchvision's weights for this network, for any number of classes.
    """
    net: Any = torchvision.models.get_model(name, weights=None, num_classes=classes)
    if pretrained:
        _load(net, name, Path(pretrained))
    elif size <= SMALL_INPUT:
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    return net


def _load(net: nn.Module, name: str, path: Path) -> None:
    """Load all weights of the file but those of the last layer; SkinGanError if they do not fit."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as e:
        url = torchvision.models.get_model_weights(name).DEFAULT.url  # type: ignore[attr-defined]
        raise SkinGanError(f"no file {path}: download {url} and give its path as pretrained=") from e
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as e:
        raise SkinGanError(f"{path} is no file of weights ({str(e).splitlines()[0]})") from e
    wanted = net.state_dict()
    body = {k: v for k, v in weights.items() if not k.startswith("fc.")}
    needed = {k for k in wanted if not k.startswith("fc.")}
    if body.keys() != needed or any(body[k].shape != wanted[k].shape for k in needed):
        raise SkinGanError(
            f"{path} does not hold torchvision's {name}: expected {len(needed)} of its tensors"
        )
    net.load_state_dict(body, strict=False)
