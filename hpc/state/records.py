"""What a job says of itself in jobs/NAME.json: state, progress, which of Slurm's jobs it is. No torch."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from skin_gan.errors import cause
from skin_gan.folders import RunFolder
from skin_gan.io import holder, read_json, waiting, write_json

PROGRESS_SECONDS = 2.0  # how often progress (`done` of `total`) is written at most
# One of a job's processes was killed, as srun says it, or as gloo and NCCL say it to the others.
KILLED = r"task \d+: Killed|Connection (closed|reset) by peer|remote process exited"


@contextlib.contextmanager
def record(run: RunFolder, name: str) -> Iterator[Callable[..., None]]:
    """Keep the job's state in jobs/NAME.json for status: running, done, or failed with the error.

    Yields a function that adds to it. With `done` and `total` it also says the seconds `left`, by this job's
    own clock; what the job waits for is its `waiting`.
    """
    path = run.jobs / f"{name}.json"
    entry: dict[str, Any] = {
        "started": time.time(), "host": socket.gethostname(), "pid": os.getpid(), "restarts": restarts(path),
        "slurm": slurm_id(), "attempt": attempt(), "node": os.environ.get("SLURMD_NODENAME"),
    }  # fmt: skip

    written, pace = 0.0, Pace()

    def tell(**more: Any) -> None:
        nonlocal written
        entry.update(more)
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
        stopped = isinstance(e, KeyboardInterrupt | SystemExit)
        tell(state="stopped" if stopped else "failed", error=cause(e), ended=time.time())
        raise
    finally:
        holder.reset(known[0])
        waiting.reset(known[1])
    if "total" in entry:
        entry["done"] = entry["total"]  # the last of it, and what was there before, nobody told
    tell(state="done", ended=time.time())


class Pace:
    """How fast work is done, since its first report."""

    total = -1

    def left(self, done: int, total: int) -> float | None:
        """Seconds until all is done; None while that is unknown."""
        if total != self.total:  # work of another kind
            self.total, self.since, self.before = total, time.monotonic(), done
        if done <= self.before:
            return None
        return (total - done) * (time.monotonic() - self.since) / (done - self.before)


@contextlib.contextmanager
def witness(run: RunFolder, name: str, rank: int) -> Iterator[None]:
    """Keep in jobs/NAME/ what ends a process other than the job's first, which sees only that it is gone."""
    try:
        yield
    except Exception as e:
        error = f"process {rank}: {cause(e)}"
        row = {"attempt": attempt(), "time": time.time(), "error": error}
        write_json(run.jobs / name / f"rank-{rank}.json", row)
        raise


def error_of(run: RunFolder, name: str, entry: Mapping[str, Any]) -> str:
    """What ended a job, of which `entry` is the record: the first error of its other processes, else its own.

    That a connection was lost is what one process says of another's end.
    """
    others = [read_json(path) or {} for path in (run.jobs / name).glob("rank-*.json")]
    told = [row for row in others if row.get("error") and row.get("attempt") == entry.get("attempt")]
    causes = [row for row in told if not re.search(KILLED, row["error"])]
    return str(min(causes, key=lambda row: row.get("time", 0.0), default=entry).get("error", ""))


def slurm_id() -> str:
    """This job's id as squeue shows it: 12, or 12_3 for an element of an array; empty on this machine."""
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")


def attempt() -> str:
    """This run of this job, such as 12_3-0: Slurm may run a job again; on this machine submitit's number."""
    number = slurm_id() or os.environ.get("SUBMITIT_LOCAL_JOB_ID", "")
    return f"{number}-{os.environ.get('SLURM_RESTART_COUNT', 0)}"


def ended(run: RunFolder, name: str) -> bool:
    """Whether the first process of this run of the job has ended, as its record says."""
    said = read_json(run.jobs / f"{name}.json") or {}
    return said.get("attempt") == attempt() and said.get("state") != "running"


def restarts(path: Path) -> int:
    before = read_json(path)
    return before.get("restarts", 0) + 1 if before else 0
