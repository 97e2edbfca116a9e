"""Real images in any of their eight orientations.

Dermoscopic images have no upright orientation, so flips and quarter turns are as real as the original.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skin_gan.rng import Rng

ADAPTIVE = False


def of_real(images: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
    """Each image in an orientation drawn at random."""
    return oriented(images, rng.uniform(len(images)))


def of_both(images: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
    """The images as they are: the generator learns all orientations from the real images."""
    return images


def oriented(x: Tensor, uniform: Tensor) -> Tensor:
    """Each image turned and flipped into one of its eight orientations, chosen by `uniform` [N] in [0,1)."""
    which = (uniform * 8).long()
    x = torch.where(_flag(which, 1), x.flip(3), x)
    x = torch.where(_flag(which, 2), x.flip(2), x)
    return torch.where(_flag(which, 4), x.transpose(2, 3), x)


def _flag(which: Tensor, bit: int) -> Tensor:
    return (which & bit).bool().view(-1, 1, 1, 1)
