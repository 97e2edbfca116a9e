"""Orientations of real images, and translation and cutout of real and generated alike (Zhao 2020).

DiffAugment's changes of colour (arXiv 2006.10738) are left out, since colour is diagnostic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skin_gan.objectives.augmentations import dihedral
from skin_gan.rng import Rng

ADAPTIVE = False

TRANSLATION = 1 / 8  # largest shift, as a part of the image
CUTOUT = 1 / 2  # side of the square that is removed, as a part of the image


of_real = dihedral.of_real


def of_both(images: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
    """Images [N,3,H,W] shifted and with a square cut out, at random."""
    uniform = rng.uniform(len(images), 4)
    return cutout(translate(images, uniform[:, :2]), uniform[:, 2:])


def translate(x: Tensor, uniform: Tensor) -> Tensor:
    """Each image shifted down and right by -1/8 to 1/8 of its size, chosen by `uniform` [N,2] in [0,1).

    Shifts are whole pixels; pixels from outside are 0, as in the paper.
    """
    n, _, height, width = x.shape
    rows = _shifted(uniform[:, 0], height)
    columns = _shifted(uniform[:, 1], width)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))  # index 0 and size + 1 are outside
    image = torch.arange(n, device=x.device).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _shifted(uniform: Tensor, size: int) -> Tensor:
    """[N,size]: the source of each pixel in the padded image, 0..size+1."""
    reach = round(size * TRANSLATION)
    shift = (uniform * (2 * reach + 1)).long() - reach
    return (torch.arange(1, size + 1, device=uniform.device) - shift[:, None]).clamp(0, size + 1)


def cutout(x: Tensor, uniform: Tensor) -> Tensor:
    """Each image with a square of half its side set to 0, its centre chosen by `uniform` [N,2] in [0,1)."""
    rows, columns = (_covered(uniform[:, k], x.shape[2 + k]) for k in (0, 1))
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _covered(uniform: Tensor, size: int) -> Tensor:
    """[N,size]: which pixels lie within the square."""
    half = round(size * CUTOUT) // 2
    centre = (uniform * size).long()[:, None]
    pixel = torch.arange(size, device=uniform.device)
    return (pixel >= centre - half) & (pixel < centre + half)
