"""Random changes of the images that a classifier is trained on: strong augmentation, RandAugment, mixing.

`Changes` are drawn for each image by itself, from the global generator of torch or from a given one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

CROP = 0.75  # smallest side of the crop, as a share of the image's
COLOUR = 0.2  # largest relative change of brightness, contrast and saturation
TINT = 0.05  # largest relative change of one channel


@dataclass(frozen=True)
class Changes:
    """The random draws of an augmentation for N images."""

    place: Tensor  # [N,2,3] affine map from coordinates -1..1 of the result to those of the image
    colours: Tensor  # [N,3,1,1,1] factors of brightness, contrast and saturation
    tint: Tensor  # [N,3,1,1] factor of each channel

    def __getitem__(self, images: slice) -> Changes:
        return Changes(*(getattr(self, f.name)[images] for f in fields(self)))


def changes(n: int, generator: torch.Generator | None = None) -> Changes:
    """Strong augmentation: any rotation, flip, crop, and a change of colours, for each of n images."""
    rand = partial(torch.rand, generator=generator)
    angle, where, side = 2 * math.pi * rand(n), rand(n, 2), CROP + (1 - CROP) * rand(n)
    flip = torch.where(rand(n) < 0.5, -1.0, 1.0)
    cos, sin = side * angle.cos(), side * angle.sin()
    shift = (1 - side)[:, None] * (2 * where - 1)
    rows = torch.stack([flip * cos, -sin, shift[:, 0], flip * sin, cos, shift[:, 1]], 1)
    return Changes(
        place=rows.view(n, 2, 3),
        colours=(1 + COLOUR * (2 * rand(3, n, 1, 1, 1) - 1)).transpose(0, 1),
        tint=1 + TINT * (2 * rand(n, 3, 1, 1) - 1),
    )


OPERATIONS = 2  # of RandAugment's, drawn for each image
# Largest change by each: rotation in radians, shears, shifts by a share of the side, brightness, contrast
LARGEST = (math.pi / 6, 0.3, 0.3, 0.2, 0.2, 0.3, 0.3)


def random_operations(n: int, generator: torch.Generator | None = None) -> Changes:
    """RandAugment (Cubuk 2020, arXiv:1909.13719) without operations on hue, for each of n images.

    Two different operations of LARGEST with uniform magnitudes, on top of a random flip and quarter turn,
    since a lesion has no upright position. Colours are left as they are: they tell lesions apart.
    """
    rand = partial(torch.rand, generator=generator)
    rank = rand(n, len(LARGEST)).argsort(1).argsort(1)
    amount = (rank < OPERATIONS) * (2 * rand(n, len(LARGEST)) - 1) * torch.tensor(LARGEST)
    turn, shear_x, shear_y, x, y, bright, contrast = amount.unbind(1)
    angle = turn + math.pi / 2 * torch.floor(4 * rand(n))
    flip = torch.where(rand(n) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack(
        [flip * (cos - sin * shear_y), cos * shear_x - sin, 2 * x,
         flip * (sin + cos * shear_y), sin * shear_x + cos, 2 * y], 1,
    )  # fmt: skip
    colours = torch.stack([1 + bright, 1 + contrast, torch.ones(n)], 1)
    return Changes(rows.view(n, 2, 3), colours[..., None, None, None], torch.ones(n, 3, 1, 1))


DRAWS: dict[str, Callable[..., Changes]] = {"strong": changes, "randaugment": random_operations}


def augment(x: Tensor, c: Changes) -> Tensor:
    """Images [N,3,S,S] in [-1,1], each moved and recoloured by its draws.

    Corners that a rotation leaves empty are filled by reflection.
    """
    return recolour(move(x, c), c)


def move(x: Tensor, c: Changes) -> Tensor:
    """Move each image in one interpolation."""
    grid = F.affine_grid(c.place.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def recolour(x: Tensor, c: Changes) -> Tensor:
    """Change each image's brightness, contrast, saturation and tint, within [-1,1]."""
    bright, contrast, saturation = c.colours.to(x).unbind(1)
    y = (x + 1) * bright * c.tint.to(x)
    grey = y.mean(1, keepdim=True)
    y = grey + saturation * (y - grey)
    mean = y.mean((1, 2, 3), keepdim=True)
    return (mean + contrast * (y - mean) - 1).clamp(-1, 1)


# Of the Beta distribution that says how much of an image is its partner's: the authors' choices for ImageNet
ALPHA = {"mixup": 0.2, "cutmix": 1.0}


def mix(x: Tensor, partner: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Each of x [N,...] mixed with x[partner], partner [N], and the share [N] 0.5..1 that is its own.

    mixup (Zhang 2018, arXiv:1710.09412): a weighted mean of images [N,3,S,S] or features [N,d]; the share is
    drawn once for a batch. cutmix (Yun 2019, arXiv:1905.04899): a rectangle of the partner's image. A drawn
    share below one half is exchanged with the partner's, so that most of an image is always its own.
    """
    alpha = torch.tensor(ALPHA[how])
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    share = max(share, 1 - share)
    if how == "mixup":
        return share * x + (1 - share) * x[partner], x.new_full((len(x),), share)
    height, width = x.shape[2:]
    side = math.sqrt(1 - share)
    (top, bottom), (left, right) = (_interval(n, side) for n in (height, width))
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[partner][:, :, top:bottom, left:right]
    cut = (bottom - top) * (right - left) / (height * width)
    return mixed, x.new_full((len(x),), 1 - cut)


def other_kind(made: Tensor) -> Tensor:
    """A random partner [N] of the other kind for each image of a batch, itself if there is none.

    made [N]: which images are generated.
    """
    partner = torch.arange(len(made), device=made.device)
    for mine, others in ((~made, made), (made, ~made)):
        if mine.any() and others.any():
            drawn = torch.randint(int(others.sum()), (int(mine.sum()),))
            partner[mine] = torch.nonzero(others)[:, 0][drawn.to(made.device)]
    return partner


def _interval(n: int, share: float) -> tuple[int, int]:
    """A random interval of this share of 0..n, cut off at its ends, around a uniform centre."""
    centre, half = float(torch.rand(())) * n, share * n / 2
    return max(0, round(centre - half)), min(n, round(centre + half))
