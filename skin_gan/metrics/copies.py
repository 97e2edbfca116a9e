"""Is a generated image a training image again?

Two checks, each blind where the other sees. Distance of features sees flips, shifts and changes of colour,
but noise, blur and JPEG move an image further than another lesion is. Distance of 16x16 normalised pixels,
at the best of the 8 flips and quarter turns, sees those, but blurry images of low contrast resemble each
other. What is near is learnt from held-out real images, which cannot be copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from skin_gan.metrics.arrays import Array, distances
from skin_gan.pixels import in_pieces

SIDE = 16  # pixels, height and width of the normalised image
NEAREST, NEAR = 0.01, 0.05  # quantiles of held-out distances: nearer is alarming, nearer is close
ENOUGH = 200  # held-out images that a 1st percentile should rest on


@dataclass(frozen=True)
class Distances:
    """From each of N images to the training images; each [N]."""

    feature: Array  # Euclidean, to the nearest image
    pixel: Array  # 0..2, to the nearest image at its best of 8 orientations
    feature_margin: Array  # 0..1: `feature` over the distance to the nearest image of any other lesion
    pixel_margin: Array


@dataclass(frozen=True)
class Thresholds:
    """What held-out images of a class do not reach but at the stated rates."""

    feature: float  # the 1st percentile of held-out distances
    pixel: float
    pixel_near: float  # their 5th percentile
    feature_margin: float  # the 1st percentile of held-out margins
    pixel_margin: float
    n: int  # held-out images they rest on
    pooled: list[str]  # the classes these come from, where the class alone has too few


class Training:
    """The training images of a class, ready to be searched."""

    def __init__(self, features: Array, images: NDArray[np.uint8], lesions: NDArray[np.str_]) -> None:
        self.features, self.pixels = features, in_pieces(normalised, images)
        self.lesions = np.unique(lesions, return_inverse=True)[1]

    def distances(self, features: Array, images: NDArray[np.uint8]) -> Distances:
        """From images uint8 [N,3,H,W] and their features [N,d]."""
        feature, feature_margin = self._nearest(distances(features, self.features))
        likeness = np.full((len(images), len(self.pixels)), -1, np.float32)
        for turn in range(8):
            turned = in_pieces(lambda piece, turn=turn: normalised(orientations(piece)[turn]), images)  # type: ignore[misc]
            np.maximum(likeness, turned @ self.pixels.T, out=likeness)
        pixel, pixel_margin = self._nearest(np.sqrt(np.maximum(2 - 2 * likeness, 0)))
        return Distances(feature, pixel, feature_margin, pixel_margin)

    def _nearest(self, d: Array) -> tuple[Array, Array]:
        nearest = d.argmin(1)
        first = d.min(1)
        other = self.lesions[None] != self.lesions[nearest][:, None]
        second = np.where(other, d, np.inf).min(1)
        return first, first / np.maximum(second, 1e-9)


def normalised(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [N,3,H,W] -> [N,768]: 16x16, each channel less its mean, of length 1 (0 for a constant image)."""
    x = torch.as_tensor(np.ascontiguousarray(images)).float()
    small = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    flat = (small - small.mean((2, 3), keepdim=True)).flatten(1)
    length = flat.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-2, flat / length, 0).numpy()


def orientations(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The 8 flips and quarter turns of square images [N,3,H,W], as views."""
    return [np.rot90(x, turns, (2, 3)) for x in (images, images[..., ::-1]) for turns in range(4)]


def thresholds(label: str, held_out: dict[str, Distances]) -> Thresholds:
    """Thresholds for the class `label` from the held-out distances of its pool of classes.

    Distances, each class's in units of its own median, are pooled, and the pooled percentiles scaled by the
    class's own median, which a small class does have. Margins have no unit, and are pooled as they are.
    Alone, a class is judged by its own percentiles.
    """
    own, pool = held_out[label], list(held_out.values())
    feature, _ = _scaled([d.feature for d in pool], own.feature)
    pixel, pixel_near = _scaled([d.pixel for d in pool], own.pixel)
    return Thresholds(
        feature=feature,
        pixel=pixel,
        pixel_near=pixel_near,
        feature_margin=float(np.quantile(np.concatenate([d.feature_margin for d in pool]), NEAREST)),
        pixel_margin=float(np.quantile(np.concatenate([d.pixel_margin for d in pool]), NEAREST)),
        n=sum(len(d.feature) for d in pool),
        pooled=sorted(held_out) if len(held_out) > 1 else [],
    )


def _scaled(pool: Sequence[Array], own: Array) -> tuple[float, float]:
    """The 1st and 5th percentile of the pool in units of its members' medians, times the median of `own`."""
    units = np.concatenate([d / max(float(np.median(d)), 1e-9) for d in pool])
    nearest, near = np.quantile(units, [NEAREST, NEAR]) * np.median(own)
    return float(nearest), float(near)


def judge(d: Distances, t: Thresholds) -> NDArray[np.bool_]:
    """[N]: which images are copies.

    Near is within the 1st percentile of held-out distances. An image is a copy if both checks find it near,
    or one does and it is much nearer to one training lesion than to any other, by a margin that 99% of
    held-out images do not have. With such a margin the pixel check takes the 5th percentile for near.

    Measured on skin images at 32 pixels: held-out images 0.6%, means of 20 training images 2%; copies exact,
    flipped, turned, recoloured, blurred (sigma 1) or noised (5 of 255) 100%, JPEG of quality 50 98%, noise of
    10 99% and of 20 80%, shifts by one pixel 97% and by two 59%. Half a copy escapes: of blends of two images
    26% are found. In classes of a hundred images up to 18% of means of many images are taken for copies.
    """
    agree = (d.feature < t.feature) & (d.pixel < t.pixel)
    feature = (d.feature < t.feature) & (d.feature_margin < t.feature_margin)
    pixel = (d.pixel < t.pixel_near) & (d.pixel_margin < t.pixel_margin)
    return agree | feature | pixel
