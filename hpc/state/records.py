"""The status record of a job, jobs/NAME.json: its state, progress and Slurm id. No torch."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hpc.state.limits import LimitReached, seconds_of
from skin_gan.errors import cause
from skin_gan.folders import RunFolder
from skin_gan.io import holder, read_json, waiting, write_json

Tell = Callable[..., None]  # updates fields of the job record, see `record`
PROGRESS_SECONDS = 2.0  # the least time between two writes of progress (`done` of `total`)
# Messages of srun, gloo and NCCL when one of a job's processes was killed.
KILLED = r"task \d+: Killed|Connection (closed|reset) by peer|remote process exited"


@contextlib.contextmanager
def record(run: RunFolder, name: str) -> Iterator[Tell]:
    """Keep the job's state in jobs/NAME.json: running, done, stopped, or failed with the error.

    Yields a function that updates the record's fields. `done` and `total` report progress, to which it adds
    the seconds `left`; `waiting` names what the job waits for. `seconds` counts all runs of the job.
    A job that stops itself at a limit of the sweep (`limit`) is stopped, not failed.
    """
    path = run.jobs / f"{name}.json"
    before, began = read_json(path), time.monotonic()
    spent = seconds_of(before or {})
    entry: dict[str, Any] = {
        "started": time.time(), "host": socket.gethostname(), "pid": os.getpid(),
        "restarts": before.get("restarts", 0) + 1 if before else 0,
        "slurm": slurm_id(), "attempt": attempt(), "node": os.environ.get("SLURMD_NODENAME"),
    }  # fmt: skip

    written, pace = 0.0, Pace()

    def tell(**more: Any) -> None:
        nonlocal written
        entry.update(more, seconds=round(spent + time.monotonic() - began, 2))
        if "done" in more:
            entry["left"] = pace.left(entry["done"], entry["total"])
        if "done" not in more or time.monotonic() - written >= PROGRESS_SECONDS:
            written = time.monotonic()
            write_json(path, entry)

    tell(state="running", error="")
    known = holder.set(name), waiting.set(lambda what: tell(waiting=what))
    try:
        yield tell
    except BaseException as e:
        stopped = isinstance(e, KeyboardInterrupt | SystemExit | LimitReached)
        limit = isinstance(e, LimitReached)
        tell(state="stopped" if stopped else "failed", error=cause(e), ended=time.time(), limit=limit)
        raise
    finally:
        holder.reset(known[0])
        waiting.reset(known[1])
    if "total" in entry:
        entry["done"] = entry["total"]  # jobs do not report their last step
    tell(state="done", ended=time.time())


class Pace:
    """Estimates the time left from the work done since the first report."""

    total = -1

    def left(self, done: int, total: int) -> float | None:
        """Seconds until all is done; None while that is unknown."""
        if total != self.total:  # other work has begun
            self.total, self.since, self.before = total, time.monotonic(), done
        if done <= self.before:
            return None
        return (total - done) * (time.monotonic() - self.since) / (done - self.before)


@contextlib.contextmanager
def record_rank_error(run: RunFolder, name: str, rank: int) -> Iterator[None]:
    """Save the error of a rank other than 0 to jobs/NAME/: rank 0 only sees a lost connection."""
    try:
        yield
    except Exception as e:
        error = f"process {rank}: {cause(e)}"
        row = {"attempt": attempt(), "time": time.time(), "error": error}
        write_json(run.jobs / name / f"rank-{rank}.json", row)
        raise


def error_of(run: RunFolder, name: str, entry: Mapping[str, Any]) -> str:
    """The error that ended the job with the record `entry`: the first of its other ranks, else its own.

    Lost connections do not count: they follow from the end of another rank.
    """
    others = [read_json(path) or {} for path in (run.jobs / name).glob("rank-*.json")]
    errors = [row for row in others if row.get("error") and row.get("attempt") == entry.get("attempt")]
    causes = [row for row in errors if not re.search(KILLED, row["error"])]
    return str(min(causes, key=lambda row: row.get("time", 0.0), default=entry).get("error", ""))


def slurm_id() -> str:
    """This job's id as squeue shows it: 12, or 12_3 for an element of an array; "" for a local job."""
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")


def attempt() -> str:
    """The id of this run of this job, such as 12_3-0 (Slurm may restart jobs); for local jobs Submitit's."""
    number = slurm_id() or os.environ.get("SUBMITIT_LOCAL_JOB_ID", "")
    return f"{number}-{os.environ.get('SLURM_RESTART_COUNT', 0)}"


def ended(run: RunFolder, name: str) -> bool:
    """Whether this run of the job has ended, by the record of its rank 0."""
    entry = read_json(run.jobs / f"{name}.json") or {}
    return entry.get("attempt") == attempt() and entry.get("state") != "running"
