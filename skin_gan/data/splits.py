"""Lesion-grouped, stratified folds. Pure functions of groups and labels; numpy only.

Photographs of one lesion resemble one another far more than photographs of two lesions, so a split by image
tests a model on lesions that it has seen. Here a group (a lesion, or several that share an image) lies in
exactly one fold.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skin_gan.errors import SkinGanError

N_FOLDS = 5
SEED = 0
SEARCHED, CONFIRMING = 0, 1  # the halves of a class's validation lesions
RECIPE = f"lesion-grouped stratified rounds v1, {N_FOLDS} folds, seed {SEED}"


def group_labels(groups: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """The label by which each group is stratified: its most frequent one, ties by alphabet."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        votes[group][label] += 1
    return {g: min(count, key=lambda label: (-count[label], label)) for g, count in votes.items()}


def assign_folds(
    groups: Sequence[str], labels: Sequence[str], n_folds: int = N_FOLDS, seed: int = SEED
) -> NDArray[np.int64]:
    """The fold, 0 to n_folds-1, of each of N images; `groups` and `labels` have one entry per image.

    Each class's groups are dealt in rounds of one per fold, large groups first, the largest of a round to the
    fold with the fewest images of that class so far. So within a class the folds differ by at most one group,
    and in images by at most the size of the largest group. Groups of equal size are ordered by a seeded hash
    of their names, so the result depends on neither the order of rows nor the platform.
    """

    def shuffled(group: str) -> bytes:
        return hashlib.sha256(f"{seed}:{group}".encode()).digest()

    size = Counter(groups)
    members: dict[str, list[str]] = defaultdict(list)
    for group, label in group_labels(groups, labels).items():
        members[label].append(group)
    fold_of: dict[str, int] = {}
    total = [0] * n_folds  # images of all classes: incomplete rounds go to the emptier folds
    for label in sorted(members):
        load = [0] * n_folds
        ordered = sorted(members[label], key=lambda g: (-size[g], shuffled(g), g))
        for start in range(0, len(ordered), n_folds):
            emptiest = sorted(range(n_folds), key=lambda f: (load[f], total[f], f))
            for group, fold in zip(ordered[start : start + n_folds], emptiest, strict=False):
                fold_of[group] = fold
                load[fold] += size[group]
                total[fold] += size[group]
    return np.array([fold_of[g] for g in groups], dtype=np.int64)


def split_parts(folds: NDArray[np.int64], fold: int, n_folds: int = N_FOLDS) -> NDArray[np.str_]:
    """The part of each of N images: "test" in `fold`, "val" in the next one, "train" in the rest.

    With five folds training and validation are 3:1 by lesion within every class. SkinGanError if there is no
    such fold.
    """
    if not 0 <= fold < n_folds:
        raise SkinGanError(f"fold {fold}: expected 0 to {n_folds - 1}")
    return np.where(folds == fold, "test", np.where(folds == (fold + 1) % n_folds, "val", "train"))


def halves(groups: Sequence[str], seed: int = SEED + 1) -> NDArray[np.int64]:
    """The half, `SEARCHED` or `CONFIRMING`, of each of a class's N validation images.

    Groups are dealt as `assign_folds` deals them: so the halves differ by at most one group, and in images by
    at most the size of the largest.
    """
    return assign_folds(groups, [""] * len(groups), 2, seed)
