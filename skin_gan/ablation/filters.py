"""Filters of generated images. Each gives a mask, and the reason for each dropped image.

All thresholds are set so that a filter would drop a given share (`tail`) of the real *validation* images of
the class. Classifiers decide on validation images whether a filter is useful, compared with a random choice
of as many images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from skin_gan.config import ModelSettings
from skin_gan.errors import SkinGanError
from skin_gan.families import build
from skin_gan.folders import TrialFolder
from skin_gan.generator import read_yaml
from skin_gan.metrics import copies
from skin_gan.metrics.arrays import distances
from skin_gan.metrics.reference import Reference
from skin_gan.pixels import in_pieces
from skin_gan.training import checkpoint

Array = NDArray[np.floating]
BATCH = 64  # images per pass of a discriminator
TAIL = 0.05  # share of real validation images that a filter may drop
NEIGHBOUR = 3  # distances are to the third nearest training image, so that one outlier does not matter


@dataclass(frozen=True)
class Filtered:
    """The result of one filter on N generated images."""

    name: str
    keep: NDArray[np.bool_]  # [N]
    scores: Array  # [N] compared with the threshold; NaN for a random choice
    threshold: float | None
    reasons: NDArray[np.str_]  # [N] "" for images that are kept

    @property
    def share(self) -> float:
        """Share kept, 0..1."""
        return float(self.keep.mean()) if len(self.keep) else 1.0


def by_confidence(p: Array, p_validation: Array, tail: float = TAIL) -> Filtered:
    """Drop images that a classifier of real images does not assign to their class.

    p [N]: probability of the intended class; p_validation [M]: that of the class's validation images.
    """
    return _at_least("confidence", "a classifier does not see its class in it", p, p_validation, tail)


def by_discriminator(logits: Array, logits_validation: Array, tail: float = TAIL) -> Filtered:
    """Drop images whose logits by the GAN's own discriminator are below nearly all real ones."""
    return _at_least(
        "discriminator", "its discriminator finds it too artificial", logits, logits_validation, tail
    )


def by_distance(features: Array, ref: Reference, tail: float = TAIL) -> Filtered:
    """Drop images far from all training images of the class; features [N,d], of the reference's extractor."""
    k = min(NEIGHBOUR, len(ref.train.features)) - 1

    def distance(x: Array) -> Array:
        return np.partition(distances(x, ref.train.features), k, axis=1)[:, k]

    return _at_most(
        "distance", "unlike every training image", distance(features), distance(ref.val.features), tail
    )


def by_copies(images: NDArray[np.uint8], features: Array, ref: Reference) -> Filtered:
    """Drop near copies of training images, as `metrics.copies` judges them."""
    found = ref.training.distances(features, images)
    copied = copies.judge(found, ref.thresholds)
    return _filtered(
        "copies", ~copied, "a near copy of a training image", found.feature, ref.thresholds.feature
    )


def by_frame(images: NDArray[np.uint8], validation: NDArray[np.uint8], tail: float = TAIL) -> Filtered:
    """Drop images with dark corners or borders; uint8 [N,3,S,S]."""
    return _at_most("frame", "dark frame", frame(images), frame(validation), tail)


def by_ruler(images: NDArray[np.uint8], validation: NDArray[np.uint8], tail: float = TAIL) -> Filtered:
    """Drop images with regular marks along a side; uint8 [N,3,S,S]."""
    return _at_most("ruler", "regular marks along a side", ruler(images), ruler(validation), tail)


def random_like(chosen: Filtered, seed: int = 0) -> Filtered:
    """As many random images as `chosen` keeps: the control of a filter."""
    keep = np.zeros(len(chosen.keep), bool)
    order = np.random.default_rng([seed, len(keep)]).permutation(len(keep))
    keep[order[: int(chosen.keep.sum())]] = True
    return _filtered(f"random as {chosen.name}", keep, "dropped at random", np.full(len(keep), np.nan), None)


def frame(images: NDArray[np.uint8]) -> Array:
    """[N] 0..1: the darkest corner's share of pixels below a third of the image's median brightness.

    A corner is a triangle with legs of a quarter of the side, since dermatoscopes darken corners.
    """
    return in_pieces(_frame, images)


def _frame(images: NDArray[np.uint8]) -> Array:
    grey = images.mean(1)
    side = grey.shape[1] // 4
    triangle = np.add.outer(np.arange(side), np.arange(side)) < side
    dark = grey < np.median(grey, (1, 2), keepdims=True) / 3
    return np.max(
        [dark_corner[:, :side, :side][:, triangle].mean(1) for dark_corner in _turned(dark)], axis=0
    )


def ruler(images: NDArray[np.uint8]) -> Array:
    """[N] grey levels: the amplitude of a regular pattern of period 2.5 to 8 pixels along a side.

    Brightness is averaged across the outer eighth of each side. The amplitude of a pattern is that at a
    frequency less the larger one two frequencies beside it (the window blurs over one), since lesions and
    hairs at the border fill neighbouring frequencies alike. A dense row of parallel hairs counts as a ruler.
    SkinGanError below 24 pixels, where strips are too short.
    """
    if (n := images.shape[2]) < 24:
        raise SkinGanError(f"images of {n} pixels are too small to look for rulers: expected at least 24")
    return in_pieces(_ruler, images)


def _ruler(images: NDArray[np.uint8]) -> Array:
    grey = images.mean(1)
    n = grey.shape[1]
    window = np.hanning(n)
    strips = np.stack([turned[:, : n // 8].mean(1) for turned in _turned(grey)])  # [4,N,n]
    strips = strips - strips.mean(2, keepdims=True)
    amplitude = np.abs(np.fft.rfft(strips * window, axis=2)) * 2 / window.sum()
    peak = amplitude[:, :, 2:-2] - np.maximum(amplitude[:, :, :-4], amplitude[:, :, 4:])
    frequencies = np.fft.rfftfreq(n)[2:-2]
    return peak[:, :, (frequencies >= 1 / 8) & (frequencies <= 1 / 2.5)].max((0, 2))


def _turned(x: NDArray) -> list[NDArray]:
    """[N,S,S] in its four quarter turns."""
    return [np.rot90(x, k, (1, 2)) for k in range(4)]


def _at_least(name: str, reason: str, scores: Array, validation: Array, tail: float) -> Filtered:
    threshold = _quantile(name, validation, tail)
    return _filtered(name, scores >= threshold, reason, scores, threshold)


def _at_most(name: str, reason: str, scores: Array, validation: Array, tail: float) -> Filtered:
    threshold = _quantile(name, validation, 1 - tail)
    return _filtered(name, scores <= threshold, reason, scores, threshold)


def _quantile(name: str, validation: Array, q: float) -> float:
    if not 0 <= q <= 1 or not len(validation) or not np.isfinite(validation).all():
        raise SkinGanError(
            f"filter {name}: expected a tail of 0 to 1 and finite scores of validation images, got {q:g} "
            f"from {len(validation)} images"
        )
    return float(np.quantile(validation, q))


def _filtered(
    name: str, keep: NDArray[np.bool_], reason: str, scores: Array, threshold: float | None
) -> Filtered:
    return Filtered(name, keep, scores, threshold, np.where(keep, "", f"{name}: {reason}"))


def discriminator_logits(folder: TrialFolder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[N] logits of being real for images uint8 [N,3,S,S], by the discriminator of the trial's best.pt.

    SkinGanError without best.pt: exported generators have no discriminator.
    """
    if not folder.best.exists():
        raise SkinGanError(f"{folder.path} has no best.pt: without its discriminator choose another filter")
    spec = read_yaml(folder.spec)
    state = checkpoint.load(folder.best, spec["id"])
    with torch.random.fork_rng():
        net = build(ModelSettings(**spec["settings"]["model"]))["discriminator"]
    net.load_state_dict(state["learner"]["nets"]["discriminator"])
    net.eval().requires_grad_(False)
    parts = torch.from_numpy(images).split(BATCH)
    return torch.cat([net(x.float().div(127.5).sub(1)) for x in parts]).numpy()
