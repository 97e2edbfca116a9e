"""What runs inside an allocation. A job holds the path of its sweep and finds everything else on disk, so it
can be killed at any instant and run again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.plan import PREPARE, SEARCH, SELECT, Job, reopen
from skin_gan.errors import SkinGanError
from skin_gan.run import RunFolder, lock, read_json, write_json


@dataclass
class Task:
    """The callable that is pickled for a job."""

    run: str
    stage: str
    label: str
    slots: int  # trials at a time

    def __call__(self) -> None:
        run, name = RunFolder(Path(self.run)), Job(self.stage, self.label).name
        # A launcher that was killed can leave its job behind: wait for it, then do what it left undone.
        with lock(run.jobs / f"{name}.lock", wait=float("inf")) as held, record(run, name) as tell:
            assert held is not None
            if self.stage == SEARCH:
                # Ray replaces signal handlers, so it gets a process of its own; the lock is passed on, to be
                # held for as long as that process lives even if this one is killed.
                with private_folder() as temporary:
                    arguments = ["-m", "hpc.search", self.run, self.label, str(self.slots), temporary]
                    code = run_child([sys.executable, *arguments], held.fileno(), ray_environment(temporary))
                    if code:
                        why = Path(temporary, "error")
                        raise RuntimeError(
                            why.read_text() if why.exists() else f"its process ended with {code}"
                        )
            elif self.stage == PREPARE:
                prepare(run, tell)
            elif self.stage == SELECT:
                select(run)
            else:
                raise ValueError(f"no stage {self.stage!r}")


@contextlib.contextmanager
def record(run: RunFolder, name: str) -> Iterator[Callable[..., None]]:
    """Keep the job's state in jobs/NAME.json for status: running, done, or failed with the error.

    Yields a function that adds to it.
    """
    path = run.jobs / f"{name}.json"
    entry: dict[str, Any] = {
        "started": time.time(), "host": socket.gethostname(), "pid": os.getpid(), "restarts": restarts(path)
    }  # fmt: skip

    def tell(**more: Any) -> None:
        entry.update(more)
        write_json(path, entry)

    tell(state="running", error="")
    try:
        yield tell
    except BaseException as e:
        stopped = isinstance(e, KeyboardInterrupt | SystemExit)
        tell(state="stopped" if stopped else "failed", error=f"{type(e).__name__}: {e}", ended=time.time())
        raise
    tell(state="done", ended=time.time())


def restarts(path: Path) -> int:
    before = read_json(path)
    return before["restarts"] + 1 if before else 0


@contextlib.contextmanager
def private_folder() -> Iterator[str]:
    """A folder for Ray's sockets: closed to others; its path is short, since sockets' end at 107 bytes."""
    path = tempfile.mkdtemp(prefix="sg", dir="/tmp")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def ray_environment(temporary: str) -> dict[str, str]:
    """The environment of a Ray that belongs to this job alone. Ray reads it when it is imported."""
    token = Path(temporary, "token")
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment.pop("RAY_ADDRESS", None)  # or it would join whatever cluster that names
    environment.update(RAY_USAGE_STATS_ENABLED="0", RAY_CHDIR_TO_TRIAL_DIR="0")
    environment.update(TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")  # the session writes its own
    return environment


def run_child(command: list[str], held: int, environment: dict[str, str]) -> int:
    """Run a process in a session of its own; its whole group ends with this one, however this one ends."""
    child = subprocess.Popen(command, start_new_session=True, pass_fds=[held], env=environment)
    try:
        # Polling, not wait(): a blocking wait in a signal handler would deadlock with one here.
        while child.poll() is None:
            time.sleep(0.1)
    finally:
        end_group(child)
    return child.returncode


def end_group(child: subprocess.Popen[bytes], grace: float = 10.0) -> None:
    """SIGINT, so that trials save and Ray ends its processes; SIGKILL for what is left after `grace` s."""
    for number, seconds in ((signal.SIGINT, grace), (signal.SIGKILL, 5.0)):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, number)
        deadline = time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def prepare(run: RunFolder, tell: Callable[..., None]) -> None:
    """Compute the features of the real images once, so that every trial finds them in the cache.

    On one thread: on cores that others use too, a second one waits for the first more than it helps.
    """
    import torch

    from hpc.inputs import Inputs

    torch.set_num_threads(1)
    Inputs(reopen(run)).warm(lambda done, total: tell(done=done, total=total))


def select(run: RunFolder) -> None:
    """Write the leaderboard and export the best generator of each class."""
    from hpc.leaderboard import write_leaderboard
    from hpc.selection import export_best

    plan = reopen(run)
    rows = write_leaderboard(plan)
    if not any(row["kid"] is not None for row in rows):
        raise SkinGanError(f"no trial in {run.path} was ever evaluated: {run.jobs} holds the jobs' messages")
    export_best(plan, rows)
