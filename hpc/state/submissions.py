"""The Slurm jobs that were submitted for a sweep: jobs/slurm.jsonl, and their logs. No torch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from skin_gan.folders import RunFolder
from skin_gan.io import append_jsonl, read_jsonl


@dataclass(frozen=True)
class Submission:
    """A job of the plan that was submitted to Slurm."""

    job: str  # name in the plan, such as search-df
    id: str  # Slurm's id: 12, or 12_3 for an element of an array

    @property
    def base(self) -> str:
        """The id of the whole array."""
        return self.id.partition("_")[0]

    def log(self, run: RunFolder) -> Path:
        """The file of what the job printed, as Submitit names it."""
        return logs(run, self.job.partition("-")[0]) / f"{self.id}_0_log.err"


def logs(run: RunFolder, stage: str) -> Path:
    """The folder of a stage's scripts and logs."""
    return run.jobs / stage


def add(run: RunFolder, submission: Submission) -> None:
    """Append a submission to the file."""
    row = {"job": submission.job, "id": submission.id, "time": time.time()}
    append_jsonl(run.jobs / "slurm.jsonl", row)


def every(run: RunFolder) -> list[Submission]:
    """All submissions in order."""
    rows = read_jsonl(run.jobs / "slurm.jsonl")
    return [Submission(str(row["job"]), str(row["id"])) for row in rows if row.get("job") and row.get("id")]


def latest(run: RunFolder) -> dict[str, Submission]:
    """The last submission of each job, by the job's name."""
    return {s.job: s for s in every(run)}
