"""Reads generated images from their sources, and validates images from elsewhere before any job. No torch."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hpc.plan import ablation
from hpc.settings.ablation import RANDOM, AblateSettings
from skin_gan.ablation.classifiers import CLASSIFIERS, PUBLISHED
from skin_gan.ablation.outside import OUTSIDE, open_outside
from skin_gan.ablation.samples import SampleSet, Survey, read_samples, survey
from skin_gan.data.files import scan, signature
from skin_gan.data.store import Store, fold_fingerprint
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import read_json

if TYPE_CHECKING:
    from hpc.settings.compose import Experiment


def read_source(
    run: RunFolder, e: Experiment, source: str, fold: int, labels: list[str] | None = None
) -> dict[str, SampleSet]:
    """The generated images of a source for a fold by class; `labels`: the classes to read, None for all."""
    size = e.trial.model.size
    if path := ablation.external_sources(e.ablate).get(source):
        found = [label for label in survey(path, size) if labels is None or label in labels]
        return read_samples(path, size, found, resize=True) if found else {}
    folder = ablation.sample_folder(run, fold, source)
    found = [label for label in labels or e.classes if (folder / label).is_dir()]
    return read_samples(folder, size, found) if found else {}


def rows_kept(run: RunFolder, label: str, filter_: str, fold: int) -> NDArray[np.integer]:
    """The indices in a class's set that a filter, or its random control, keeps."""
    name, which = filter_.removeprefix(RANDOM), "random" if filter_.startswith(RANDOM) else "kept"
    verdicts = read_json(ablation.filter_file(run, fold, label)) or {}
    if name not in verdicts:
        raise SkinGanError(
            f"the filter {name} was not applied to {label} in fold {fold}: see the log of its job "
            "of the stage generate"
        )
    return np.array(verdicts[name][which], dtype=int)


def source_stamps(a: AblateSettings) -> list[str]:
    """A text for each source of external images that changes when one of its files does."""
    found = []
    for name, path in sorted(ablation.external_sources(a).items()):
        stamp = ""
        with contextlib.suppress(SkinGanError, OSError):  # missing: arms that need it report that
            store = path / "store.json"
            stamp = store.read_text() if store.exists() else signature(scan(path))
        found.append(f"{name} {stamp}")
    if a.external:
        with contextlib.suppress(OSError):
            found.append(f"{OUTSIDE} {(Path(a.external) / 'store.json').read_text()}")
    return found


def check_external(a: AblateSettings, data: Store, size: int) -> None:
    """SkinGanError, naming the setting, unless ablate.external is a store that all classifiers can be tested
    on."""
    if odd := [name for name in a.classifiers if name in PUBLISHED and a.classifiers[name].by_lesion]:
        raise SkinGanError(
            f"ablate.external={a.external}: {odd[0]} has images of {CLASSIFIERS[odd[0]].size} pixels, and is "
            "not tested outside: set its by_lesion to false"
        )
    try:
        open_outside(a.external, data, size)
    except SkinGanError as e:
        raise SkinGanError(f"ablate.external={a.external}: {e}") from e


def check_sources(a: AblateSettings, data: Store, labels: list[str], size: int) -> list[str]:
    """Validate ablate.sources; returns remarks that a launch prints.

    SkinGanError, naming the setting, if a source does not exist, no arm uses it, or its images do not fit.
    Only the first image of each class is opened.
    """
    remarks = []
    for name, path in a.sources.items():
        if not Path(path).exists():
            raise SkinGanError(
                f"ablate.sources.{name}={path} does not exist: give a sweep's folder, or images (a folder "
                "per class, a zip, a store)"
            )
    if not a.classifiers:
        return [f"left out: ablate.sources.{name}, since no classifier is trained" for name in a.sources]
    used, others = ablation.sources(a), ablation.external_sources(a)
    for name, path in a.sources.items():
        # `best` selects from all sweeps, whether or not they are arms too
        if name not in used and (name in others or ablation.BEST not in used):
            raise SkinGanError(
                f"ablate.sources.{name}={path}: no arm uses it: add {name} to the arms of a classifier, such "
                f"as ablate.classifiers.{next(iter(a.classifiers))}.arms, or leave it out"
            )
        if name in used and name in others:
            remarks += _check_images(f"ablate.sources.{name}={path}", name, a, data, labels, size)
    return remarks


def _check_images(
    setting: str, name: str, a: AblateSettings, data: Store, labels: list[str], size: int
) -> list[str]:
    """Validate a source of external images: its classes, folds and pixels; returns remarks."""
    try:
        found = survey(ablation.external_sources(a)[name], size)
    except SkinGanError as e:
        raise SkinGanError(f"{setting}: {e}") from e
    if unknown := sorted(set(found) - set(data.classes)):
        raise SkinGanError(
            f"{setting} has images under {', '.join(unknown)}, which is no class: expected folders named "
            f"like {', '.join(data.classes)}"
        )
    if not set(labels) & set(found):
        raise SkinGanError(f"{setting} has no images of {', '.join(labels)}: expected a folder per class")
    if any(p.by_lesion and name in (arm.source for arm in ablation.arms(a, p).values())
           for p in a.classifiers.values()):  # fmt: skip
        _check_folds(setting, found, a, data)
    remarks = []
    for label, one in found.items():
        if one.verified and one.size != (size, size):
            raise SkinGanError(
                f"{setting}: images of {label} have {one.size[0]}x{one.size[1]} pixels, and this sweep's "
                f"{size}x{size}: generate them at that size"
            )
        if min(one.size) * 2 < size:
            raise SkinGanError(
                f"{setting}: images of {label} have {one.size[0]}x{one.size[1]} pixels: expected {size}x"
                f"{size}, or at least half of it to be scaled up"
            )
    other = sorted({f"{s.size[0]}x{s.size[1]}" for s in found.values() if s.size != (size, size)})
    if other:
        remarks.append(
            f"{setting}: images of {', '.join(other)} pixels are cropped and scaled to {size}x{size}"
        )
    if missing := [label for label in labels if label not in found]:
        remarks.append(f"{setting} has no images of {', '.join(missing)}: its arm adds none to these classes")
    return remarks


def _check_folds(setting: str, found: dict[str, Survey], a: AblateSettings, data: Store) -> None:
    """SkinGanError unless the images' generator has seen no test images of any fold in use."""
    unknown = [label for label, one in found.items() if one.fold_fingerprint is None]
    if unknown and not a.unverified:
        raise SkinGanError(
            f"{setting} does not say which photographs its images of {', '.join(unknown)} were made from (no "
            "manifest.yaml with a fold_fingerprint): ablate.unverified=true uses them anyway, and the "
            "report warns of them"
        )
    for fold in a.folds:
        right = fold_fingerprint(data, fold)
        if wrong := [label for label, one in found.items() if one.fold_fingerprint not in (None, right)]:
            raise SkinGanError(
                f"{setting}: the images of {', '.join(wrong)} were not made for fold {fold} of this data: "
                "their generator may have seen its test images. Generate them from that fold's generators, "
                f"or leave the fold out of ablate.folds={a.folds}"
            )
