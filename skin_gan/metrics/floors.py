"""What real images score against real images, at the n that generated ones are measured at.

Of most scores the value alone says nothing: the Frechet distance of two sets of real images is 60 at n = 100
and 18 at 700. The floor is what the same function returns when real images stand in for the generated ones.
"""

from __future__ import annotations

import numpy as np

from skin_gan.metrics import scores
from skin_gan.metrics.artefacts import checkerboard
from skin_gan.metrics.cache import cached_record
from skin_gan.metrics.reference import Reference
from skin_gan.metrics.scores import Array, Groups

SPLITS = 10
SMALL, KID_SPLITS = 600, 100  # in a class of at most so many images, KID varies more, and costs little
TRAINING = 512  # training images, at most, for what needs few
Row = dict[str, float | None]


def compare(
    fake: Array, real: Array, lesions: np.ndarray, ref: Reference, seed: int, fake_lesions: Groups = None
) -> Row:
    """The scores that depend on n: FD, precision, recall, density, coverage, C2ST, Vendi score of `fake`."""
    k = scores.neighbours(min(len(fake), len(real)))
    return {
        "fd": scores.fd(fake, real),
        **scores.prdc(fake, real, k),
        "c2st": scores.c2st(fake, real, lesions, fake_lesions, seed),
        "vendi": scores.vendi(fake, ref.scale),
    }


def stand_in_size(ref: Reference, n_fake: int) -> int:
    """How many real images can stand in for `n_fake` generated ones: a validation set has to be left."""
    return min(n_fake, len(ref.train.images))


def floors(ref: Reference, n_fake: int) -> Row:
    """Real against real: means over random splits by lesion of training and validation images together.

    One part has the validation set's size; of the other, `stand_in_size` images play the generated ones.
    Keys are those of `compare`, `kid`, `kid_sd` (spread over the splits, x1000), `checkerboard`, and
    `kid_train`: the actual training images (512 at most) against the validation images. Kept on disk.
    """
    n = stand_in_size(ref, n_fake)
    return cached_record(ref.cache, ("floors", ref.fingerprint, ref.label, n), lambda: _compute(ref, n))


def _compute(ref: Reference, n: int) -> Row:
    features = np.concatenate([ref.train.features, ref.val.features])
    lesions = np.concatenate([ref.train.lesions, ref.val.lesions])
    rows = []
    for seed in range(KID_SPLITS if len(features) <= SMALL else SPLITS):
        a, b = _split(lesions, n, len(ref.val.images), seed)
        row: Row = {"kid": scores.kid(features[a], features[b], lesions[b], lesions[a])}
        if seed < SPLITS:
            row |= compare(features[a], features[b], lesions[b], ref, seed, lesions[a])
        rows.append(row)
    some = np.random.default_rng(0).permutation(len(ref.train.images))[:TRAINING]
    kids = [r["kid"] for r in rows if r["kid"] is not None]
    return mean_rows(rows) | {
        "kid_sd": float(np.std(kids)) if kids else None,
        "kid_train": scores.kid(
            ref.train.features[some], ref.val.features, ref.val.lesions, ref.train.lesions[some]
        ),
        "checkerboard": checkerboard(ref.train.images, ref.val.images),
    }


def _split(lesions: np.ndarray, n_fake: int, n_real: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of stand-ins and of reference images, in random order by lesion, without a lesion in common."""
    names, index, counts = np.unique(lesions, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    chosen, left = np.zeros(len(names), bool), n_real
    for lesion in order:
        if counts[lesion] <= left:
            chosen[lesion], left = True, left - counts[lesion]
    by_lesion = np.argsort(np.argsort(order)[index], kind="stable")
    is_real = chosen[index[by_lesion]]
    return by_lesion[~is_real][:n_fake], by_lesion[is_real]


def mean_rows(rows: list[Row]) -> Row:
    """Mean of each key over the rows that define it; None where none does."""
    values = {key: [v for r in rows if (v := r.get(key)) is not None] for key in rows[0]}
    return {key: float(np.mean(v)) if v else None for key, v in values.items()}
