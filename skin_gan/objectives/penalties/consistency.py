"""Balanced consistency (Zhao 2020, arXiv 2002.04724): logits stay as an image is turned, flipped and shifted.

As in consistency regularisation (Zhang 2020, arXiv 1910.12027), and for generated images too. The paper's
weight is 10. Shifts are of up to an eighth of the image and reflected at its edges.
"""

from __future__ import annotations

from torch import Tensor

from skin_gan.objectives import Judged, mean, of_image
from skin_gan.objectives.augmentations.geometric import moved

NEEDS = "images"


def penalty(judged: Judged) -> Tensor:
    pairs = zip(judged.fakes, judged.on_fakes, strict=True)
    return _change(judged, judged.real, judged.on_real) + mean([_change(judged, *pair) for pair in pairs])


def _change(judged: Judged, images: Tensor, logits: Tensor) -> Tensor:
    """Mean squared change of the images' logits."""
    again = judged.net(moved(images, judged.moves))
    return (of_image(again) - of_image(logits)).square().mean()
