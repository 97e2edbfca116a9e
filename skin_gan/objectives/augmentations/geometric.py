"""Orientations and translations of real and generated images alike, reflected at the edges.

What both sides of a discriminator are shown turned, flipped and moved need not be learned that way by the
generator, and does not leak into its images as long as it can be undone (Karras 2020, arXiv 2006.06676).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skin_gan.objectives.augmentations import dihedral
from skin_gan.rng import Rng

ADAPTIVE = False

TRANSLATION = 1 / 8  # largest shift, as a part of the image


def of_real(images: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
    """Real images as they are drawn from the class."""
    return images


def of_both(images: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
    """Images [N,3,H,W] each in one of its eight orientations and shifted, at random."""
    return moved(images, rng.uniform(len(images), 3))


def moved(images: Tensor, uniform: Tensor) -> Tensor:
    """Each image in an orientation and shifted, as `uniform` [N,3] in [0,1) chooses."""
    return reflected_shift(dihedral.oriented(images, uniform[:, 0]), uniform[:, 1:])


def reflected_shift(x: Tensor, uniform: Tensor) -> Tensor:
    """Each image shifted down and right by -1/8 to 1/8 of its size, chosen by `uniform` [N,2] in [0,1).

    Shifts are whole pixels; what moves in is the image's own edge, reflected: black borders would be copied.
    """
    rows, columns = (_sources(uniform[:, k], x.shape[2 + k]) for k in (0, 1))
    image = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    return x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _sources(uniform: Tensor, size: int) -> Tensor:
    """Where each of `size` pixels comes from, [N,size] in 0..size-1."""
    reach = round(size * TRANSLATION)
    shift = (uniform * (2 * reach + 1)).long() - reach
    source = (
        torch.arange(size, device=uniform.device) - shift[:, None]
    ).abs()  # -1 is 1: the edge itself once
    return torch.where(source < size, source, 2 * (size - 1) - source)
