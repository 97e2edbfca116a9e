"""R1 (Mescheder 2018, arXiv 1801.04406): half the squared gradient at real images."""

from __future__ import annotations

from torch import Tensor

from skin_gan.objectives import Judged, squared_gradients

NEEDS = "gradients"


def penalty(judged: Judged) -> Tensor:
    return 0.5 * judged.scale * squared_gradients(judged.on_real, judged.real).mean()
