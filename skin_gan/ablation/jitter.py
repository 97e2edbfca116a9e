"""Strong conventional augmentation for classifiers: what a careful user would do without a generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

CROP = 0.75  # smallest side of the part that is kept, as a share of the image's
COLOUR = 0.2  # largest relative change of brightness, contrast and saturation
TINT = 0.05  # largest relative change of one channel


def strong(x: Tensor) -> Tensor:
    """Images [N,3,S,S] in [-1,1], each turned by any angle, flipped, cropped and recoloured by its own draw.

    Draws from torch's global generator. Corners that a turn would leave empty are mirrored in.
    """
    return recolour(move(x))


def move(x: Tensor) -> Tensor:
    """A random turn, flip and crop of each image, in one interpolation."""
    n = len(x)
    angle, where = 2 * math.pi * torch.rand(n), torch.rand(n, 2)
    side = CROP + (1 - CROP) * torch.rand(n)
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    cos, sin = side * angle.cos(), side * angle.sin()
    shift = (1 - side)[:, None] * (2 * where - 1)
    rows = torch.stack([flip * cos, -sin, shift[:, 0], flip * sin, cos, shift[:, 1]], 1)
    grid = F.affine_grid(rows.view(n, 2, 3).to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def recolour(x: Tensor) -> Tensor:
    """Each image's brightness, contrast, saturation and tint changed by its own draw, within [-1,1]."""
    n = len(x)
    bright, contrast, saturation = (1 + COLOUR * (2 * torch.rand(3, n, 1, 1, 1) - 1)).to(x)
    tint = (1 + TINT * (2 * torch.rand(n, 3, 1, 1) - 1)).to(x)
    y = (x + 1) * bright * tint
    grey = y.mean(1, keepdim=True)
    y = grey + saturation * (y - grey)
    mean = y.mean((1, 2, 3), keepdim=True)
    return (mean + contrast * (y - mean) - 1).clamp(-1, 1)
