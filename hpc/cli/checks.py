"""Validates a launch before any job starts, in a dry run too. Imports torch only to count local GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hpc.plan.ablation import sizes
from hpc.plan.settle import check_weights
from hpc.plan.sweep_plan import Plan
from hpc.settings.compose import Experiment, check_results
from hpc.slurm import client
from skin_gan.ablation.stats import FEWEST
from skin_gan.data.splits import CONFIRMING, N_FOLDS, SEARCHED, halves
from skin_gan.data.store import MIN_IMAGES, MIN_LESIONS, Store
from skin_gan.errors import SkinGanError

MEASURED = 3  # the fewest validation lesions for an interval of KID, see `skin_gan.metrics.scores`
NO_FILES = ("proc", "sysfs", "cgroup", "cgroup2", "devpts")  # file systems that cannot hold files


def check_launch(plan: Plan, store: Store) -> None:
    """SkinGanError for faults that would stop the sweep later: in its folder, images, classes, weights or
    devices."""
    check_results(str(plan.run.path))
    if odd := [label for label in plan.experiment.classes if set("/%\\") & set(label)]:
        raise SkinGanError(
            f"class {odd[0]!r}: expected a name without /, % and \\, since jobs' folders are named by it: "
            "ingest the data with another name for it, or leave it out (classes=)"
        )
    check_writable(plan)
    for size in sizes(plan.experiment.ablate, plan.experiment.trial.model.size):
        if size in store.sizes or store.kind != "demo":  # missing sizes of the built-in data will be drawn
            store.images(size)
    if store.path.exists():  # else it is the built-in data, which a launch checks when it has drawn it
        check_classes(plan, store)
    check_weights(plan.experiment)
    check_devices(plan.experiment)


def check_writable(plan: Plan) -> None:
    """SkinGanError if the sweep's folder cannot be made or written; writes nothing."""
    path = next(p for p in (plan.run.path, *plan.run.path.parents) if os.path.lexists(p))
    why = ""
    if not path.is_dir():
        why = "is no folder"
    elif client.filesystem(path.resolve()) in NO_FILES:
        why = "is on a file system that takes no files"
    elif not os.access(path, os.W_OK | os.X_OK):
        why = "may not be written by this user, or is mounted read-only"
    if why:
        raise SkinGanError(
            f"cannot write results={plan.experiment.results}: {path} {why}; choose another folder by results="
        )


def check_classes(plan: Plan, store: Store) -> None:
    """SkinGanError for classes with too few images or lesions in any part of any fold in use."""
    if small := list(too_small(plan.experiment, store)):
        tested = bool(plan.experiment.ablate.classifiers)
        raise SkinGanError(
            f"too few images in {store.name}: {'; '.join(small)}. Leave these classes out (classes=), or add "
            "images" + (", or train no classifiers (ablate.classifiers={})" if tested else "")
        )


def too_small(e: Experiment, store: Store) -> Iterator[str]:
    """A line for each class and fold with too few images or lesions.

    A searched class needs enough for training and for measuring its generators. With classifiers, every class
    of the data needs enough test lesions for a verdict.
    """
    labels, groups = store.manifest["dx"].to_numpy(), store.manifest["group"].to_numpy()
    plans = e.ablate.classifiers.values()
    tested = e.ablate.folds if any(plan.by_lesion for plan in plans) else []
    for fold in sorted({e.fold, *(e.ablate.folds if plans else [])}):
        parts = store.parts(fold)
        for label in store.classes:
            rows = {part: (labels == label) & (parts == part) for part in ("train", "val", "test")}
            lesions = {part: len(np.unique(groups[mask].astype(str))) for part, mask in rows.items()}
            lacks = []
            if label in e.classes:
                images = int(rows["train"].sum())
                if images < MIN_IMAGES or lesions["train"] < MIN_LESIONS:
                    lacks.append(f"{images} training images of {lesions['train']} {store.grouped_by}, where "
                                 f"{MIN_IMAGES} of {MIN_LESIONS} are needed")  # fmt: skip
                if fold == e.fold and e.confirm.seeds and (n := in_a_half(groups[rows["val"]])) < MEASURED:
                    lacks.append(
                        f"{n} {store.grouped_by} in one half of its validation where {MEASURED} are needed "
                        "(confirm.seeds=0 does not halve them)"
                    )
                elif lesions["val"] < MEASURED:
                    lacks.append(
                        f"{lesions['val']} validation {store.grouped_by} where {MEASURED} are needed"
                    )
            if fold in tested and fold < N_FOLDS and lesions["test"] < FEWEST:
                lacks.append(f"{lesions['test']} test {store.grouped_by} where a verdict needs {FEWEST}")
            if lacks:
                yield f"class {label} has in fold {fold} {', '.join(lacks)}"


def in_a_half(groups: NDArray[np.str_]) -> int:
    """The lesions in the smaller half of a class's validation images, by the lesion of each."""
    parts = halves(groups.tolist())
    return min(len(set(groups[parts == half].tolist())) for half in (SEARCHED, CONFIRMING))


def check_devices(e: Experiment) -> None:
    """SkinGanError if this machine lacks the GPUs of a local profile."""
    device, wanted = e.operations.device, e.profile.gpus_per_node
    if e.profile.kind != "local" or not (device == "cuda" or (wanted and device != "cpu")):
        return
    import torch

    found = torch.cuda.device_count()
    if device == "cuda" and not found:
        raise SkinGanError("operations.device=cuda, but torch sees no GPU here: use auto or cpu")
    if found < wanted:
        raise SkinGanError(
            f"torch sees {found} GPUs here where profile.gpus_per_node={wanted}: correct it, or set "
            "operations.device=cpu"
        )


def data_line(store: Store, word: str) -> str:
    """The data of a launch on one line; `word`: the value of data=."""
    chosen = f", chosen by data={word}" if word == "auto" else ""
    drawn = "" if store.path.exists() else " (to be drawn)"
    name = f"{store.name}, {store.extent}, fingerprint {store.fingerprint[:8]}"
    return f"data: {name}: {store.path}{drawn}{chosen}"
