"""AlexNet tuned to human judgements of similarity: the second network by which images are measured.

Krizhevsky's network, without the blocks and shortcuts of later ones, trained to agree with people on which of
two images is nearer to a third (Zhang 2018, arXiv 1801.03924). A blur before each reduction makes it
indifferent to shifts of a pixel (Ghildyal and Liu 2022, arXiv 2207.13686).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skin_gan.errors import SkinGanError

LEAST, MOST = 64, 128  # pixels: smaller images are enlarged, larger ones reduced
DIMENSIONS = 384 + 256 + 256  # of the last three layers, which are measured by
# Its convolutions as the weights name them: inputs, outputs, kernel, padding.
CONVOLUTIONS = {
    "slice1.0": (3, 64, 11, 2),
    "slice2.5": (64, 192, 5, 2),
    "slice3.9": (192, 384, 3, 1),
    "slice4.11": (384, 256, 3, 1),
    "slice5.13": (256, 256, 3, 1),
}


class AlexNet(nn.Module):
    """Images in [-1,1], [N,3,H,W], at least 32 pixels a side -> activations of its five layers, [N,C,h,w]."""

    shift: Tensor
    scale: Tensor
    blur: Tensor

    def __init__(self, weights: Path) -> None:
        """SkinGanError if the file does not hold this network's weights."""
        super().__init__()
        layers = {name.replace(".", "_"): nn.Conv2d(i, o, k, padding=p)
                  for name, (i, o, k, p) in CONVOLUTIONS.items()}  # fmt: skip
        self.layers = nn.ModuleDict(layers)
        source = torch.load(weights, map_location="cpu", weights_only=True)
        try:
            for name, layer in zip(CONVOLUTIONS, self.layers.values(), strict=True):
                layer.load_state_dict({part: source[f"net.{name}.{part}"] for part in ("weight", "bias")})
            self.register_buffer("shift", source["scaling_layer.shift"])
            self.register_buffer("scale", source["scaling_layer.scale"])
            self.register_buffer("blur", source["net.slice1.1.filt"][:1])  # the same for every channel
        except (KeyError, RuntimeError) as e:
            raise SkinGanError(f"{weights} does not hold the shift-tolerant AlexNet's weights: {e}") from e
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        first, second, third, fourth, fifth = self.layers.values()
        a = self.halved(first((images - self.shift) / self.scale)).relu()
        b = second(self.halved(F.max_pool2d(a, 3, 1))).relu()
        c = third(self.halved(F.max_pool2d(b, 3, 1))).relu()
        d = fourth(c).relu()
        return [a, b, c, d, fifth(d).relu()]

    def pooled(self, images: Tensor) -> Tensor:
        """Features [N,896]: means over places of the last three layers, each place brought to length sqrt(C).

        As the activations are, they shrink fivefold from layer to layer, to where KID's kernel is linear and
        sees the mean alone. On skin at 64 pixels, 60 images against 100, with the spread of real against real
        as unit: KID of these rises with each step of blur (2.7, 28, 135), noise (6, 73, 394), other classes
        mixed in (1, 6, 25) and repeats (7, 28). Of the raw layers it falls with a little blur (-5.5). By the
        last layer alone blur and noise count half as much; the first two add nothing.
        """
        layers = [x / (x.square().mean(1, keepdim=True).sqrt() + 1e-8) for x in self(images)[2:]]
        return torch.cat([x.mean((2, 3)) for x in layers], dim=1)

    def halved(self, x: Tensor) -> Tensor:
        """Blurred by 1-2-1 both ways, every second place: [N,C,H,W] -> about [N,C,H/2,W/2]."""
        channels = x.shape[1]
        padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(padded, self.blur.expand(channels, -1, -1, -1), stride=2, groups=channels)
