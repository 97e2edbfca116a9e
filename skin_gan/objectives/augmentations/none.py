"""No augmentation."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from skin_gan.rng import Rng

ADAPTIVE = False


def of_real(images: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
    """Real images, unchanged."""
    return images


def of_both(images: Tensor, rng: Rng, state: dict[str, Any]) -> Tensor:
    """Real or generated images, unchanged."""
    return images
