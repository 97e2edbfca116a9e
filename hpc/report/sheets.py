"""report/sheets/: generated images, and those nearest to training images beside these; report/sheets.json.

The sheets called CLASS-nearest.png hold photographs: they stay in the sweep's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpc.report.evidence import SHEETS
from hpc.report.sampled import Sampled
from skin_gan.ablation.samples import SampleSet
from skin_gan.io import write_json
from skin_gan.metrics import copies
from skin_gan.metrics.cache import one_thread
from skin_gan.metrics.scores import distances
from skin_gan.training import grids

COLUMNS, ROWS = 8, 4  # of the sheet of generated images
PAIRS = 16  # nearest neighbours shown, COLUMNS to a row


def write_sheets(sampled: Sampled, folder: Path) -> list[dict[str, Any]]:
    """Sheets of the main source in the search's fold, for each class that has generated images."""
    found = []
    for label in sampled.e.classes:
        sample = sampled.read(sampled.e.fold, sampled.main, label) if sampled.main else None
        if isinstance(sample, SampleSet):
            found.append(write_class(sampled, label, sample, folder))
    write_json(folder / SHEETS, {"sheets": found})
    return found


def write_class(sampled: Sampled, label: str, sample: SampleSet, folder: Path) -> dict[str, Any]:
    """Both sheets of a class; returns its entry in sheets.json."""
    generated, nearest = f"sheets/{label}-generated.png", f"sheets/{label}-nearest.png"
    grids.save(folder / generated, grids.sheet(sample.images[: COLUMNS * ROWS], COLUMNS))
    images, features = sampled.features(sample)
    real, ids = sampled.inputs.judge(label).real, sampled.inputs.split(label).train.image_ids
    with one_thread():
        away = distances(features, real.train.features)
        copied = copies.judge(real.training.distances(features, images), real.thresholds)
    columns = min(COLUMNS, len(images))
    rows = away.min(1).argsort()[: min(PAIRS, len(images) // columns * columns)]
    partners = away[rows].argmin(1)
    both = _paired(images[rows], real.train.images[partners], columns)
    grids.save(folder / nearest, grids.sheet(both, columns))
    pairs = [
        {"generated": str(sample.names[i]), "photograph": str(ids[j]),
         "distance": round(float(away[i, j]), 3), "copy": bool(copied[i])}
        for i, j in zip(rows, partners, strict=True)
    ]  # fmt: skip
    return {"class": label, "source": sampled.main, "fold": sampled.e.fold, "judged": len(images),
            "generated": generated, "nearest": nearest, "pairs": pairs}  # fmt: skip


def _paired(above: np.ndarray, below: np.ndarray, columns: int) -> np.ndarray:
    """Both [N,3,S,S], N a multiple of `columns`: each row of `above` followed by its row of `below`."""
    rows = []
    for start in range(0, len(above), columns):
        rows += [above[start : start + columns], below[start : start + columns]]
    return np.concatenate(rows)
