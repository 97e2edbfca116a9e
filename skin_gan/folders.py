"""The folders and files of a sweep and its trials, and the states of a trial. No torch.

results/aegan_lr/demo-1a2b3c4d/        RunFolder: one sweep on one data set
    sweep.yaml                         the resolved settings, written before work starts
    trials/df/0003-9f8e7d6c5b/         TrialFolder: one training
        trial.yaml                     its TrialSpec
        state.json                     state, kimg, best metric: what status reads
        metrics.jsonl                  one row per evaluation
        last.pt best.pt                complete checkpoints
        samples/                       image grids, of at most 5 evaluations
        events.out.tfevents...         TensorBoard
    best/df/                           the chosen generator
    leaderboard.csv
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skin_gan.io import read_json, write_json

PENDING, RUNNING = "pending", "running"
STOPPED = "stopped"  # a trial that goes on with its class's job
COMPLETED, PRUNED, DIVERGED, FAILED = "completed", "pruned", "diverged", "failed"
ALARMED = "alarmed"  # ended by its evaluations; what it has learned is kept, and may be trained on
SHEETS = 5  # evaluations of a training whose sheets stay as files; TensorBoard has all
ARRAY = "images.npy"  # a class's set of generated images in one file: uint8 [N,3,S,S]
STATES = (PENDING, RUNNING, STOPPED, COMPLETED, PRUNED, ALARMED, DIVERGED, FAILED)


class _Inside:
    """An attribute that is the path of a file or folder inside a folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: TrialFolder | RunFolder, kind: type) -> Path:
        return folder.path / self.name


@dataclass(frozen=True)
class TrialFolder:
    """The files of one trial."""

    path: Path
    spec = _Inside("trial.yaml")
    state_file = _Inside("state.json")
    metrics = _Inside("metrics.jsonl")
    last = _Inside("last.pt")
    best = _Inside("best.pt")
    samples = _Inside("samples")
    confirmed = _Inside("confirmed.json")  # what best.pt scores on lesions that chose nothing
    lock = _Inside("lock")

    def state(self) -> dict[str, Any]:
        """The content of state.json; `{"state": "pending"}` before the trial starts."""
        return {"state": PENDING, **(read_json(self.state_file) or {})}

    def update(self, **changes: Any) -> dict[str, Any]:
        """Merge `changes` into the state and write it."""
        state = {**self.state(), **changes, "updated": time.time()}
        write_json(self.state_file, state)
        return state


@dataclass(frozen=True)
class RunFolder:
    """The files of one sweep on one data set."""

    path: Path
    settings = _Inside("sweep.yaml")
    provenance = _Inside("provenance.json")
    leaderboard = _Inside("leaderboard.csv")
    jobs = _Inside("jobs")
    trials = _Inside("trials")

    def trial(self, label: str, index: int, identity: str) -> TrialFolder:
        return TrialFolder(self.trials / label / f"{index:04d}-{identity}")

    def best(self, label: str) -> Path:
        return self.path / "best" / label
