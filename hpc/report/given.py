"""report/images.csv: what each arm was trained on, and what its filter kept. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpc.ablation import RANDOM, filter_file, part
from skin_gan.ablation.predictions import Predictions
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import read_json


@dataclass(frozen=True)
class GivenRow:
    """Images of one class that one arm was trained on, in one split."""

    classifier: str
    arm: str
    split: str  # fold-0, ..., by-image
    label: str
    real: int  # repeats counted
    generated: int
    kept: float | None  # share 0..1 of the class's generated images that the filter keeps; None: no filter


def given_rows(
    run: RunFolder, classifier: str, runs: Mapping[str, Mapping[str, Mapping[int, Predictions]]]
) -> list[GivenRow]:
    """By the records of each arm's first seed: the seeds are given the same images."""
    rows = []
    for arm, by in runs.items():
        for split, of_split in by.items():
            record = next(iter(of_split.values())).record
            filter_ = record["arm"]["filter"].removeprefix(RANDOM)
            for label, real in record["real"].items():
                kept = _share(run, split, label, filter_) if filter_ else None
                rows.append(GivenRow(classifier, arm, split, label, real, record["synthetic"][label], kept))
    return rows


def _share(run: RunFolder, split: str, label: str, filter_: str) -> float | None:
    if split == part(None):
        return None  # its images are those of a fold, which is not recorded
    try:
        found = read_json(filter_file(run, int(split.removeprefix("fold-")), label)) or {}
    except SkinGanError:
        return None
    share = found.get(filter_, {}).get("share")
    return None if share is None else float(share)
