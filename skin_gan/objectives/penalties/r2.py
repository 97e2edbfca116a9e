"""R2 (Mescheder 2018, arXiv 1801.04406): half the squared gradient at generated images."""

from __future__ import annotations

from torch import Tensor

from skin_gan.objectives import Judged, mean, squared_gradients

NEEDS = "gradients"


def penalty(judged: Judged) -> Tensor:
    pairs = zip(judged.on_fakes, judged.fakes, strict=True)
    return 0.5 * judged.scale * mean([squared_gradients(logits, images).mean() for logits, images in pairs])
