"""The arms of the ablation, a file each, found by its name. No torch.

TITLE                                    its name in tables and pages
ARM                                      its changes, in the fields of `skin_gan.ablation.arm.Arm`
alter(images, rng)                       optional, with duplicate=True: the repeated photographs, altered
weights(labels, generated, classes)      optional, with class_weights=True: the weight of each image
make(store, split, size, n, label, rng)  optional, of a source: its images of a class, without a generator
IMAGES                                   a description of those images, for their manifest
EXPECTED                                 optional, of a control: the verdicts that it must get

Each model family is an arm too, which adds images of its generators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skin_gan.ablation.arm import Arm
from skin_gan.variants import FAMILIES, names, variant

if TYPE_CHECKING:
    from skin_gan.ablation.parts import Split
    from skin_gan.ablation.samples import SampleSet
    from skin_gan.data.store import Store

FOLDER = "ablation/arms"
FILES = {name: variant(FOLDER, name) for name in names(FOLDER)}
METHODS = {name for name, file in FILES.items() if hasattr(file, "alter") or hasattr(file, "weights")}
ARMS = {name: Arm(name, synthetic="add", source=name) for name in names(FAMILIES)} | {
    name: replace(file.ARM, name=name, method=name if name in METHODS else "") for name, file in FILES.items()
}
TITLES = {name: f"+ {name.upper()}" for name in names(FAMILIES)} | {n: f.TITLE for n, f in FILES.items()}
# Control arms, with the verdicts that they must get.
CONTROLS: dict[str, tuple[str, ...]] = {n: f.EXPECTED for n, f in FILES.items() if hasattr(f, "EXPECTED")}
MADE = {file.ARM.source for file in FILES.values() if hasattr(file, "make")}  # sources without a generator


def own(arm: Arm, function: str) -> Callable[..., Any] | None:
    """The function of this name in the arm's file, or None."""
    return getattr(variant(FOLDER, arm.method), function, None) if arm.method else None


def make_samples(
    source: str,
    store: Store,
    split: Split,
    size: int,
    count: int,
    seed: int = 0,
    labels: Sequence[str] | None = None,
) -> dict[str, SampleSet]:
    """`count` images of each of `labels` (None: all classes) of a source in `MADE`."""
    from skin_gan.ablation.samples import SampleSet

    file = next(f for f in FILES.values() if f.ARM.source == source and hasattr(f, "make"))
    origin = {"control" if hasattr(file, "EXPECTED") else "arm": file.IMAGES}
    file_names = np.array([f"{i:05d}.png" for i in range(count)])
    found = {}
    for k, label in enumerate(store.classes):
        if labels is None or label in labels:
            images = file.make(store, split, size, count, label, np.random.default_rng([seed, k]))
            found[label] = SampleSet(
                label, np.ascontiguousarray(images), file_names, split.fingerprint, origin
            )
    return found
