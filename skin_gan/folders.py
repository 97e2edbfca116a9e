"""Where a sweep and its trials keep everything, and the states of a trial. No torch.

results/aegan_lr/demo-1a2b3c4d/        RunFolder: one sweep on one data set
    sweep.yaml                         the resolved settings, written before work starts
    trials/df/0003-9f8e7d6c5b/         TrialFolder: one training
        trial.yaml                     its TrialSpec
        state.json                     state, kimg, best metric: what status reads
        metrics.jsonl                  one row per evaluation
        last.pt best.pt                complete checkpoints
        samples/                       image grids
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
COMPLETED, PRUNED, DIVERGED, FAILED = "completed", "pruned", "diverged", "failed"
STATES = (PENDING, RUNNING, COMPLETED, PRUNED, DIVERGED, FAILED)


@dataclass(frozen=True)
class TrialFolder:
    """Where one trial keeps everything."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "trial.yaml"

    @property
    def state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        return self.path / "best.pt"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    def state(self) -> dict[str, Any]:
        """What is known of the trial; `{"state": "pending"}` before it starts."""
        return {"state": PENDING, **(read_json(self.state_file) or {})}

    def update(self, **changes: Any) -> dict[str, Any]:
        """Merge `changes` into the state and write it."""
        state = {**self.state(), **changes, "updated": time.time()}
        write_json(self.state_file, state)
        return state


@dataclass(frozen=True)
class RunFolder:
    """Where one sweep on one data set keeps everything."""

    path: Path

    @property
    def settings(self) -> Path:
        return self.path / "sweep.yaml"

    @property
    def provenance(self) -> Path:
        return self.path / "provenance.json"

    @property
    def leaderboard(self) -> Path:
        return self.path / "leaderboard.csv"

    @property
    def jobs(self) -> Path:
        return self.path / "jobs"

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    def trial(self, label: str, index: int, identity: str) -> TrialFolder:
        return TrialFolder(self.trials / label / f"{index:04d}-{identity}")

    def best(self, label: str) -> Path:
        return self.path / "best" / label
