"""Orientations, shifts, scales and cutouts with a probability that follows overfitting (Karras 2020, ADA).

StyleGAN2-ADA (arXiv 2006.06676), without its changes of colour, which carries the diagnosis. Where the
discriminator is sure of more real images than TARGET says, images of both kinds are changed more often.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skin_gan.objectives.augmentations import diffaugment, dihedral, geometric
from skin_gan.rng import Rng

ADAPTIVE = True

TARGET = 0.6  # of the mean sign of real images' logits, as in the paper
KIMG = 100.0  # in which the probability can go from 0 to 1: the paper's, where there are few images
EVERY = 4  # updates of the discriminator between two of the probability, as in the paper
SCALE = 0.2  # standard deviation of the scale's binary logarithm


def of_real(images: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
    """Real images as they are drawn from the class."""
    return images


def of_both(images: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
    """Images [N,3,H,W], each changed in each of four ways with the probability of `state`, at random."""
    p, uniform, normal = state.get("p", 0.0), rng.uniform(len(images), 9), rng.normal(len(images))
    applied = (uniform[:, :4] < p).to(images.dtype)  # numbers that leave images as they are where not
    x = dihedral.oriented(images, uniform[:, 4] * applied[:, 0])
    x = geometric.reflected_shift(x, 0.5 + (uniform[:, 5:7] - 0.5) * applied[:, 1:2])
    x = scaled(x, SCALE * normal * applied[:, 2])
    return torch.where(applied[:, 3].bool().view(-1, 1, 1, 1), diffaugment.cutout(x, uniform[:, 7:9]), x)


def scaled(x: Tensor, octaves: Tensor) -> Tensor:
    """Each image enlarged by 2**octaves [N] about its centre; reflected beyond its edges where it shrinks."""
    factor = torch.exp2(-octaves).to(x.dtype)
    matrix = torch.zeros(len(x), 2, 3, dtype=x.dtype, device=x.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = factor
    grid = torch.nn.functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def adapt(logits: Tensor, shown: int, state: dict[str, Any]) -> None:
    """Move the probability after a batch of real images with these logits [N], `shown` images in all."""
    signs = state.setdefault("signs", [])
    signs.append(float(logits.sign().mean()))
    if len(signs) < EVERY:
        return
    images = shown - state.get("at", 0)
    direction = 1 if sum(signs) / len(signs) > TARGET else -1
    state["p"] = min(1.0, max(0.0, state.get("p", 0.0) + direction * images / (1000 * KIMG)))
    state["at"] = shown
    signs.clear()
