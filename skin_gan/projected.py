"""A discriminator on frozen features (Projected GANs, Sauer 2021, arXiv 2111.01007).

A network trained on photographs looks at the images; only small heads on its features are trained. Features
are taken at four resolutions, each mixed by a fixed random 1x1 convolution, so that no head can lean on the
few channels that tell most. Heads are convolutions with spectral normalisation, which judge patches.

What frozen features tell poorly, the colours of an image and how much the images of a batch differ, has heads
of its own.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.models import mobilenet_v2

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.pretrained import weights_file

Features = list[Tensor]  # what the heads are given: [N,mixed,H,W] of each resolution, and the images' colours

# MobileNetV2's last layer at an eighth, ... of the input: their strides, channels, and the stride-2
# convolutions of their heads.
TAPS = {1: (16, 2), 3: (24, 1), 6: (32, 1), 13: (96, 0)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, images in 0..1
COLOUR = 4  # height and width to which images are reduced for the head that judges colour


class Projected(nn.Module):
    """Images [N,3,S,S] in [-1,1], or the features of such, -> logits [N,P]: of each head as many.

    Logits of an image depend on the others of its batch. `pixels`, a discriminator of images, is a head more
    (vision-aided GANs, Kumari 2022, arXiv 2112.09130).
    """

    def __init__(self, m: ModelSettings, pixels: nn.Module | None = None) -> None:
        super().__init__()
        self.side, self.spread, width = m.features_size, m.batch_spread, m.head_channels
        self.backbone = backbone(m.features)
        self.mixers = nn.ModuleList(mixer(channels, width) for channels, _ in TAPS.values())
        self.heads = nn.ModuleList(head(width + m.batch_spread, width, down) for _, down in TAPS.values())
        self.colour = colour_head(width) if m.colour_head else None
        self.pixels = pixels

    def train(self, mode: bool = True) -> Projected:
        super().train(mode)
        self.backbone.eval()
        return self

    def features(self, images: Tensor) -> Features:
        """What does not depend on trained weights; gradients reach the images."""
        x = images if not self.side else F.interpolate(images, self.side, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(v, device=x.device, dtype=x.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
        x = ((x + 1) / 2 - mean) / std
        found: Features = []
        for index, layer in enumerate(self.backbone):
            x = layer(x)
            if index in TAPS:
                found.append(self.mixers[len(found)](x))
        return [*found, F.adaptive_avg_pool2d(images, COLOUR), *([images] if self.pixels else [])]

    def forward(self, seen: Tensor | Features) -> Tensor:
        seen = self.features(seen) if isinstance(seen, Tensor) else seen
        maps, colours, images = seen[: len(TAPS)], seen[len(TAPS)], seen[len(TAPS) + 1 :]
        if self.spread:
            maps = [with_spread(x) for x in maps]
        judged = [net(x) for net, x in zip(self.heads, maps, strict=True)]
        if self.colour is not None:
            judged.append(self.colour(with_spread(colours)))
        if self.pixels is not None:
            judged.append(self.pixels(*images).view(-1, 1, 1, 1))
        # Each head has the same say: its logits are repeated to the number of the finest.
        side = max(x.shape[-1] for x in judged)
        return torch.cat([F.interpolate(x, side, mode="nearest").flatten(1) for x in judged], dim=1)


def backbone(name: str) -> nn.Sequential:
    """MobileNetV2's layers up to the last tap, frozen, batch normalisation folded into its convolutions.

    "random" has fresh weights, for comparison: of those of a pretrained network nothing remains.
    """
    net = mobilenet_v2(weights=None).features
    if name == "random":
        spread_out(net)
    else:
        load(net, name)
    layers = nn.Sequential(*list(net)[: max(TAPS) + 1]).eval().requires_grad_(False)
    return fold(layers)


def load(net: nn.Module, name: str) -> None:
    """Give torchvision's layers the weights `name`; SkinGanError if they are another network's."""
    source = torch.load(weights_file(name), map_location="cpu", weights_only=True)
    own = any(".conv.0.0." in key for key in source)  # torchvision's, whose names begin the same
    renamed = {
        key.removeprefix("features.") if own else in_torchvision(key): value for key, value in source.items()
    }
    target = net.state_dict()
    odd = [key for key in target if key not in renamed or renamed[key].shape != target[key].shape]
    if odd:
        raise SkinGanError(f"the weights {name} are not MobileNetV2's: {len(odd)} differ, such as {odd[0]}")
    net.load_state_dict({key: renamed[key] for key in target})


# Places of a block's convolutions and normalisations: in files without groups, and in torchvision.
FIRST = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
OTHERS = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}


def in_torchvision(key: str) -> str:
    """torchvision's name, in its layers, of a tensor: `features.2.conv.3.weight` is 2.conv.1.0.weight."""
    match key.split(".")[1:]:
        case [block, "conv", place, part]:
            places = FIRST if block == "1" else OTHERS
            return f"{block}.conv.{places.get(place, place)}.{part}"
        case rest:
            return ".".join(rest)


@torch.no_grad()
def spread_out(net: nn.Module) -> None:
    """Random convolutions that keep the size of what passes (He 2015), without normalisation."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in")


def fold(net: nn.Sequential) -> nn.Sequential:
    """Batch normalisations, which are fixed, become part of the convolutions before them."""
    for parent in list(net.modules()):
        names = list(dict(parent.named_children()))
        for before, after in pairwise(names):
            conv, norm = getattr(parent, before), getattr(parent, after)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse_conv_bn_eval(conv, norm))
                setattr(parent, after, nn.Identity())
    return net


def mixer(channels: int, mixed: int) -> nn.Conv2d:
    """A fixed random 1x1 convolution."""
    layer = nn.Conv2d(channels, mixed, 1, bias=False).requires_grad_(False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    return layer


def head(inputs: int, channels: int, down: int) -> nn.Sequential:
    """[N,inputs,H,W] -> logits of patches [N,1,H/2^down,W/2^down]."""
    layers: list[nn.Module] = []
    for c_in in [inputs, *[channels] * (down - 1)][:down]:
        layers += [spectral_norm(nn.Conv2d(c_in, channels, 4, 2, 1)), nn.LeakyReLU(0.2, inplace=True)]
    last = channels if down else inputs
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(last, 1, 3, 1, 1)))


def colour_head(channels: int) -> nn.Sequential:
    """Reduced images and their batch's spread [N,4,4,4] -> one logit [N,1,1,1]."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(4, channels, 3, 1, 1)),
        nn.LeakyReLU(0.2, inplace=True),
        spectral_norm(nn.Conv2d(channels, channels, 3, 1, 1)),
        nn.LeakyReLU(0.2, inplace=True),
        spectral_norm(nn.Conv2d(channels, 1, COLOUR)),
    )


def with_spread(x: Tensor) -> Tensor:
    """[N,C,H,W] with a channel more: the batch's standard deviation at each place, averaged over channels.

    Minibatch standard deviation (Karras 2018, arXiv 1710.10196), at each place by itself.
    """
    variance = x.float().var(0, unbiased=False)
    spread = (variance + 1e-8).sqrt().mean(0, keepdim=True).to(x.dtype)
    return torch.cat([x, spread.expand(len(x), 1, -1, -1)], dim=1)


def feature_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance [] of features [N,C,H,W], each place's scaled to length 1 (Zhang 2018, LPIPS)."""
    a, b = (F.normalize(x.float(), dim=1) for x in (a, b))
    return (a - b).square().sum(1).mean()
