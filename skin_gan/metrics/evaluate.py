"""Generated images of one class + its reference -> one flat, JSON-able record."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from skin_gan.errors import SkinGanError
from skin_gan.metrics import copies, scores
from skin_gan.metrics.artefacts import checkerboard
from skin_gan.metrics.cache import one_thread
from skin_gan.metrics.features import Extractor, as_images
from skin_gan.metrics.floors import TRAINING, Row, compare, floors, mean_rows, stand_in_size
from skin_gan.metrics.reference import Reference, reference

__all__ = ["Reference", "evaluate", "reference"]

FLOORED = ("kid", "fd", "precision", "recall", "density", "coverage", "c2st", "vendi", "checkerboard")
CHUNKS = 4  # at most so many subsets of the generated images are averaged over
FEW = 50  # validation images below which a class is called small
Record = dict[str, float | int | str | None]


def evaluate(fake: Tensor | np.ndarray, ref: Reference, extractor: Extractor, seed: int = 0) -> Record:
    """Score generated images uint8 [N,3,S,S] (N >= 2) against the class's *validation* images.

    Every value is finite or None; `note` says why one is None, and what this n cannot resolve.

    kid, kid_low, kid_high   KID x1000 and its 95% interval; pairs of one lesion left out (`scores.kid`)
    kid_all_pairs            KID x1000 as usually computed, comparable to other people's
    kid_floor, kid_floor_sd  mean and spread of real-vs-real KID over splits by lesion
    kid_train                KID of the training images themselves: how far this split's two parts lie apart
    fd ... checkerboard      and each + "_floor": the real-vs-real value at equal n (`floors`)
    c2st_train               C2ST against training images: well below 0.5 is a copying alarm
    copies                   share 0..1 of generated images judged copies of training images (`copies.judge`)
    copies_n, copies_pooled  the held-out images and classes that its thresholds rest on
    collapse                 0 (as many different images as real) .. 1 (all one): 1 - vendi / vendi_floor
    duplicates               share of generated images nearer to another one than held-out ones to training
    n_fake, n_real, n_floor  generated; validation; generated images per subset for scores that depend on n
    k                        neighbours of precision, recall, density and coverage: 5, fewer in a tiny class
    """
    images = _checked(fake, ref, extractor)
    x = extractor(images)
    with one_thread():
        return _evaluate(images, x, ref, extractor, seed)


def _evaluate(images: np.ndarray, x: np.ndarray, ref: Reference, extractor: Extractor, seed: int) -> Record:
    n, n_part = len(images), stand_in_size(ref, len(images))
    parts = np.random.default_rng(seed).permutation(n)
    parts = parts[: n_part * min(CHUNKS, n // n_part)].reshape(-1, n_part)
    row: Row = {
        **_kid(x, ref, seed),
        **mean_rows([compare(x[p], ref.val.features, ref.val.lesions, ref, seed) for p in parts]),
        "checkerboard": checkerboard(images),
        "c2st_train": _c2st_training(x[parts[0]], ref, seed),
        **_floors(ref, n),
        **_copies(x, images, ref),
    }
    row["collapse"] = _collapse(row)
    context = _context(ref, extractor, n, n_part, seed)
    return {**row, **context, "note": "; ".join(_notes(row, ref, n, n_part))}


def _checked(fake: Tensor | np.ndarray, ref: Reference, extractor: Extractor) -> np.ndarray:
    images = as_images(fake).cpu().numpy()
    if images.shape[2:] != (ref.size, ref.size) or len(images) < 2:
        raise SkinGanError(
            f"expected at least 2 images of {ref.size}x{ref.size} pixels, got {list(images.shape)}"
        )
    if extractor.weights_sha != ref.weights_sha:
        raise SkinGanError(
            f"expected the reference's extractor, {ref.extractor} ({ref.weights_sha}), got {extractor.name} "
            f"({extractor.weights_sha}): use one for both"
        )
    return images


def _kid(x: np.ndarray, ref: Reference, seed: int) -> Row:
    val = ref.val
    low, high = scores.kid_interval(x, val.features, val.lesions, seed) or (None, None)
    return {
        "kid": scores.kid(x, val.features, val.lesions),
        "kid_low": low,
        "kid_high": high,
        "kid_all_pairs": scores.kid(x, val.features),
    }


def _floors(ref: Reference, n: int) -> Row:
    floor = floors(ref, n)
    row = {f"{key}_floor": floor[key] for key in FLOORED}
    return row | {"kid_floor_sd": floor["kid_sd"], "kid_train": floor["kid_train"]}


def _c2st_training(x: np.ndarray, ref: Reference, seed: int) -> float | None:
    some = np.random.default_rng(seed).permutation(len(ref.train.images))[:TRAINING]
    return scores.c2st(x, ref.train.features[some], ref.train.lesions[some], seed=seed)


def _collapse(row: Row) -> float | None:
    got, real = row["vendi"], row["vendi_floor"]
    return None if got is None or not real else max(0.0, 1 - got / real)


def _copies(x: np.ndarray, images: np.ndarray, ref: Reference) -> Row:
    between = scores.distances(x, x)
    np.fill_diagonal(between, np.inf)
    return {
        "copies": float(copies.judge(ref.training.distances(x, images), ref.thresholds).mean()),
        "duplicates": float((between.min(1) < ref.thresholds.feature).mean()),
    }


def _context(ref: Reference, extractor: Extractor, n: int, n_part: int, seed: int) -> Record:
    """With what, on what and at which n."""
    return {
        "n_fake": n,
        "n_real": len(ref.val.images),
        "n_lesions": len(np.unique(ref.val.lesions)),
        "n_train": len(ref.train.images),
        "n_floor": n_part,
        "k": scores.neighbours(min(n_part, len(ref.val.images))),
        "copies_n": ref.thresholds.n,
        "copies_pooled": ",".join(ref.thresholds.pooled),
        "unit": ref.unit,
        "size": ref.size,
        "fold": ref.fold,
        "split": ref.fingerprint,
        "seed": seed,
        "extractor": extractor.name,
        "fd_name": extractor.fd_name,
        "weights": extractor.weights_sha,
    }


def _notes(row: Row, ref: Reference, n: int, n_part: int) -> list[str]:
    """What these numbers cannot tell, and why."""
    n_real, lesions = len(ref.val.images), len(np.unique(ref.val.lesions))
    notes = []
    if undefined := sorted(key for key, value in row.items() if value is None):
        notes.append(f"not defined at this n or for such images: {', '.join(undefined)}")
    low, high, floor = row["kid_low"], row["kid_high"], row["kid_floor"]
    if low is not None and high is not None:
        if n_real < FEW:
            notes.append(
                f"{n_real} validation images of {lesions} {ref.unit}s know KID to +-{(high - low) / 2:.0f}: "
                "generators closer than that are not told apart"
            )
        if floor is not None and low <= floor + 2 * (row["kid_floor_sd"] or 0):
            notes.append("KID is within the spread of real against real: not told apart from real at this n")
    train, spread = row["kid_train"], row["kid_floor_sd"]
    if train is not None and spread is not None and train > 2 * spread:
        notes.append(f"the training images themselves are at KID {train:.0f} from so few validation images")
    if (k := scores.neighbours(min(n_part, n_real))) < 5:
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
