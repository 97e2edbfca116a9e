"""The process in which a job runs Ray: guarded, alone, and gone when the job is. No torch, no Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from hpc.state.environment import alone
from hpc.state.logs import END, last_words

STOPPED = 128 + signal.SIGINT  # exit code of a search that was interrupted
NO_RAY = 75  # exit code of a search that could not start Ray


class Driver:
    """A process that runs `hpc.search.ray_tune`: Ray replaces signal handlers, so it needs its own.

    It is in a session of its own and ends with this process, however this one ends. The job's lock, where
    this process has it, is passed on, to be held for as long as that one lives even if this one is killed.
    """

    def __init__(
        self, arguments: list[str], token: str, variables: dict[str, str], held: IO[bytes] | None = None
    ) -> None:
        # Ray's sockets are in it: closed to others; its path is short, since sockets' end at 107 bytes.
        self.temporary = tempfile.mkdtemp(prefix="sg", dir="/tmp")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hpc.search.ray_tune", *arguments, self.temporary],
            start_new_session=True,
            pass_fds=[held.fileno()] if held else [],
            env=ray_environment(self.temporary, token, variables),
            stderr=subprocess.PIPE,
        )
        self.held = held
        self.stopped = False
        self.error = ""  # how it says that it has failed; one that just dies does not
        self.said = bytearray()  # the end of what it printed
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self) -> None:
        """Pass on what the process prints, until it and all it started have ended, and keep the end of it."""
        assert self.process.stderr is not None
        while part := os.read(self.process.stderr.fileno(), 65536):
            self.said = (self.said + part)[-END:]
            with contextlib.suppress(OSError):  # where this job's own log cannot be written
                write_all(part)

    @property
    def words(self) -> str:
        """What ended the process, by its own account or else by the end of what it printed."""
        return self.error or last_words(self.said.decode(errors="replace"))

    def wait(self, wanted: Callable[[], bool] = lambda: True, every: float = 0.1) -> int:
        """The process's exit code; it is ended where it is no longer wanted."""
        try:
            # Polling, not wait(): a blocking wait in a signal handler would deadlock with one here.
            while self.process.poll() is None and wanted():
                time.sleep(every)
        finally:
            self.end()
        return self.process.returncode

    def stop(self, grace: float) -> None:
        self.stopped = True
        self.end(grace)

    def end(self, grace: float = 10.0) -> None:
        """End the process and all it started; afterwards nothing of it is left."""
        end_group(self.process, grace)
        self.listener.join(timeout=5.0)
        with contextlib.suppress(OSError):
            self.error = Path(self.temporary, "error").read_text()
        shutil.rmtree(self.temporary, ignore_errors=True)


def write_all(part: bytes) -> None:
    """Write to this process's standard error, wherever Python's own has been led."""
    while part:
        part = part[os.write(2, part) :]


def ray_environment(temporary: str, token: str, variables: dict[str, str]) -> dict[str, str]:
    """The environment of a Ray that belongs to this job alone. Ray reads it when it is imported."""
    secret = Path(temporary, "token")
    secret.touch(mode=0o600)
    secret.write_text(token)
    # Each trial has one process, however many the job has.
    environment = {**alone(variables), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(secret)}
    environment.pop("RAY_ADDRESS", None)  # or it would join whatever cluster that names
    environment.update(RAY_USAGE_STATS_ENABLED="0", RAY_CHDIR_TO_TRIAL_DIR="0")
    environment.update(TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")  # the session writes its own
    environment.update(TUNE_DISABLE_SIGINT_HANDLER="1")  # it would take trials that were stopped for failed
    environment.update(RAY_memory_monitor_refresh_ms="0")  # it watches the machine; Slurm watches the job
    environment.update(RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0")  # Slurm waits for no node to be emptied
    return environment


def end_group(child: subprocess.Popen[bytes], grace: float) -> None:
    """SIGINT, so that Ray ends its processes; SIGKILL for what is left after `grace` seconds."""
    for number, seconds in ((signal.SIGINT, grace), (signal.SIGKILL, 5.0)):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, number)
        deadline = time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
