"""Evaluates generated images of one class against its reference: one flat, JSON-able record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from skin_gan.errors import SkinGanError
from skin_gan.metrics.arrays import Row, finite
from skin_gan.metrics.cache import one_thread
from skin_gan.metrics.comparison import Comparison, neighbours
from skin_gan.metrics.features import Extractor, as_images
from skin_gan.metrics.reference import Reference, reference
from skin_gan.metrics.scores import declared
from skin_gan.variants import SCORES, names, variant

__all__ = ["Reference", "evaluate", "reference"]

FEW = 50  # validation images below which a class is called small
Record = dict[str, float | int | str | None]


def evaluate(
    fake: Tensor | np.ndarray,
    ref: Reference,
    extractor: Extractor,
    seed: int = 0,
    second: Extractor | None = None,
) -> Record:
    """Score generated images uint8 [N,3,S,S] (N >= 2) against the class's *validation* images.

    Scores whose names end in 2 are by the network `second`, all others by `extractor`; `ref` was made with
    both. Every value is finite or None; `note` explains None and limits of this n. The values are those of
    `scores.declared`, and

    copies_n, copies_pooled  the held-out images and classes behind the thresholds of copies
    n_fake, n_real, n_floor  generated; validation; generated images per subset for scores that depend on n
    k                        neighbours of precision, recall, density and coverage: 5, fewer in a tiny class
    extractor, extractor2    the networks; the second is "" where there is none
    """
    images = _checked(fake, ref, extractor)
    c = Comparison(images, extractor(images), ref, seed)
    if second is not None and ref.second is not None:
        _check_network(second, ref.second)
        c = replace(c, second=Comparison(images, second(images), ref.second, seed))
    with one_thread():
        return _evaluate(c, extractor)


def _evaluate(c: Comparison, extractor: Extractor) -> Record:
    row: Row = {}
    for name in names(SCORES):
        values = variant(SCORES, name).score(c)
        expected = {column for column, score in declared().items() if score.file == name}
        if values.keys() != expected:
            raise SkinGanError(
                f"skin_gan/{SCORES}/{name}.py: expected the numbers of its SCORES, {sorted(expected)}, got "
                f"{sorted(values)}"
            )
        row |= {column: finite(value) for column, value in values.items()}
    return {**row, **_context(c, extractor), "note": "; ".join(_notes(row, c))}


def _checked(fake: Tensor | np.ndarray, ref: Reference, extractor: Extractor) -> np.ndarray:
    """The images as an array; SkinGanError for a wrong shape, size or extractor."""
    images = as_images(fake).cpu().numpy()
    if images.shape[2:] != (ref.size, ref.size) or len(images) < 2:
        raise SkinGanError(
            f"expected at least 2 images of {ref.size}x{ref.size} pixels, got {list(images.shape)}"
        )
    _check_network(extractor, ref)
    return images


def _check_network(extractor: Extractor, ref: Reference) -> None:
    if extractor.weights_sha != ref.weights_sha:
        raise SkinGanError(
            f"expected the reference's extractor, {ref.extractor} ({ref.weights_sha}), got {extractor.name} "
            f"({extractor.weights_sha}): use one for both"
        )


def _context(c: Comparison, extractor: Extractor) -> Record:
    """The columns on data, numbers of images and extractor."""
    ref = c.ref
    return {
        "n_fake": len(c.images),
        "n_real": len(ref.val.images),
        "n_lesions": len(np.unique(ref.val.lesions)),
        "n_train": len(ref.train.images),
        "n_floor": c.n_part,
        "k": neighbours(min(c.n_part, len(ref.val.images))),
        "copies_n": ref.thresholds.n,
        "copies_pooled": ",".join(ref.thresholds.pooled),
        "unit": ref.unit,
        "size": ref.size,
        "fold": ref.fold,
        "split": ref.fingerprint,
        "seed": c.seed,
        "extractor": extractor.name,
        "fd_name": extractor.fd_name,
        "weights": extractor.weights_sha,
        "extractor2": c.second.ref.extractor if c.second else "",
        "weights2": c.second.ref.weights_sha if c.second else "",
    }


def _notes(row: Row, c: Comparison) -> list[str]:
    """Sentences on the limits of these numbers."""
    ref, n, n_part = c.ref, len(c.images), c.n_part
    n_real, lesions = len(ref.val.images), len(np.unique(ref.val.lesions))
    notes = []
    absent = variant(SCORES, "second").SCORES if c.second is None else ()
    if undefined := sorted(key for key, value in row.items() if value is None and key not in absent):
        notes.append(f"not defined at this n or for such images: {', '.join(undefined)}")
    if absent:
        notes.append(
            f"measured by one network, so there is no {', '.join(absent)}: `python -m skin_gan.pretrained` "
            f"says how to get the weights of the second"
        )
    low, high, floor = row["kid_low"], row["kid_high"], row["kid_floor"]
    if low is not None and high is not None:
        if n_real < FEW:
            notes.append(
                f"{n_real} validation images of {lesions} {ref.unit}s know KID x1000 to "
                f"+-{(high - low) / 2:.0f}: generators closer than that are not told apart"
            )
        if floor is not None and low <= floor + 2 * (row["kid_floor_sd"] or 0):
            notes.append("KID is within the spread of real against real: not told apart from real at this n")
    train, spread = row["kid_train"], row["kid_floor_sd"]
    if train is not None and spread is not None and train > 2 * spread:
        notes.append(
            f"the training images themselves are at KID x1000 {train:.0f} from so few validation images"
        )
    if (k := neighbours(min(n_part, n_real))) < 5:
        notes.append(f"k = {k} neighbours, not 5: {min(n_part, n_real)} images are too few")
    if n_part < n:
        notes.append(
            f"{n_part} real images can stand in: scores that depend on n are of {n_part} generated ones"
        )
    if ref.thresholds.pooled:
        notes.append(f"copy thresholds pooled over {ref.thresholds.n} held-out images of small classes")
    if ref.thresholds.n < 100:
        notes.append("fewer than 100 held-out images: the copy checks' 1% is not resolved")
    return notes
