"""What a sweep has cost, stage by stage. No torch.

Trainings have recorded their own seconds. Other stages are counted by their jobs, from start to end, of which
only the last attempt is known where a job was stopped and went on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.plan import ABLATE, FOLDS, GENERATE, PREPARE, SEARCH, SELECT
from skin_gan.folders import RunFolder
from skin_gan.io import read_json, read_jsonl


@dataclass(frozen=True)
class Cost:
    """Hours of one device: a GPU, or the CPU threads of one training."""

    stage: str
    part: str  # a lesion class, a classifier; empty for the whole stage
    trainings: int
    device_hours: float


def costs(run: RunFolder, classifiers: Mapping[str, Sequence[float]]) -> list[Cost]:
    """`classifiers`: seconds of each of their trainings."""
    found = [_by_job(run, PREPARE), *_trials(SEARCH, run.trials), _by_job(run, SELECT)]
    for folder in sorted(run.path.glob("folds/*/*/trials")):
        found += _trials(FOLDS, folder)
    found.append(_by_job(run, GENERATE))
    found += [Cost(ABLATE, name, len(spent), sum(spent) / 3600) for name, spent in classifiers.items()]
    return _summed([c for c in found if c.device_hours > 0])


def _trials(stage: str, folder: Path) -> list[Cost]:
    found = []
    for label in sorted(path for path in folder.glob("*") if path.is_dir()):
        last = [rows[-1] for path in label.glob("*/metrics.jsonl") if (rows := read_jsonl(path))]
        found.append(Cost(stage, label.name, len(last), sum(row["seconds"] for row in last) / 3600))
    return found


def _by_job(run: RunFolder, stage: str) -> Cost:
    records = [read_json(path) or {} for path in sorted(run.jobs.glob(f"{stage}*.json"))]
    seconds = sum(r["ended"] - r["started"] for r in records if {"started", "ended"} <= r.keys())
    return Cost(stage, "", 0, seconds / 3600)


def _summed(found: list[Cost]) -> list[Cost]:
    """Folds and sources of one class together."""
    sums: dict[tuple[str, str], Cost] = {}
    for c in found:
        before = sums.get((c.stage, c.part), Cost(c.stage, c.part, 0, 0.0))
        sums[c.stage, c.part] = Cost(
            c.stage, c.part, before.trainings + c.trainings, before.device_hours + c.device_hours
        )
    return list(sums.values())
