"""Starts and supervises the process in which a job runs Ray; it ends with the job. No torch, no Ray."""

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

from hpc.state.environment import without_rank_variables
from hpc.state.logs import END, last_words

STOPPED = 128 + signal.SIGINT  # exit code of a search that was interrupted
NO_RAY = 75  # exit code of a search that could not start Ray


class Driver:
    """A process that runs `hpc.search.ray_tune`. Ray replaces signal handlers, so it needs its own process.

    The process has its own session and ends with this one, however this one ends. It inherits the job's lock
    `held`, if there is one, and so keeps it even if this process is killed.
    """

    def __init__(
        self, arguments: list[str], token: str, variables: dict[str, str], held: IO[bytes] | None = None
    ) -> None:
        # It holds Ray's sockets: private to the user, and short, since a socket's path has at most 107 bytes.
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
        self.error = ""  # the error that it reported; "" if it just died
        self.output = bytearray()  # the end of what it printed
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self) -> None:
        """Copy what the process and its children print to this job's log, and keep the end of it."""
        assert self.process.stderr is not None
        while part := os.read(self.process.stderr.fileno(), 65536):
            self.output = (self.output + part)[-END:]
            with contextlib.suppress(OSError):  # this job's log cannot be written
                write_all(part)

    @property
    def reason(self) -> str:
        """Why the process ended: its own error, or else the last lines that it printed."""
        return self.error or last_words(self.output.decode(errors="replace"))

    def wait(self, wanted: Callable[[], bool] = lambda: True, every: float = 0.1) -> int:
        """Wait for the process and return its exit code; end it as soon as it is not `wanted` any more."""
        try:
            # Polling, not wait(): a blocking wait in a signal handler would deadlock with one here.
            while self.process.poll() is None and wanted():
                time.sleep(every)
        finally:
            self.end()
        return self.process.returncode

    def stop(self, grace: float) -> None:
        """End the process, and note that it was stopped."""
        self.stopped = True
        self.end(grace)

    def end(self, grace: float = 10.0) -> None:
        """End the process and all its children, read its error, and remove its folder."""
        end_group(self.process, grace)
        self.listener.join(timeout=5.0)
        with contextlib.suppress(OSError):
            self.error = Path(self.temporary, "error").read_text()
        shutil.rmtree(self.temporary, ignore_errors=True)


def write_all(part: bytes) -> None:
    """Write to file descriptor 2, wherever `sys.stderr` points."""
    while part:
        part = part[os.write(2, part) :]


def ray_environment(temporary: str, token: str, variables: dict[str, str]) -> dict[str, str]:
    """The environment of a Ray that belongs to this job only. Ray reads it when it is imported."""
    secret = Path(temporary, "token")
    secret.touch(mode=0o600)
    secret.write_text(token)
    environment = without_rank_variables(variables)  # Ray's trials are not ranks of this job
    environment.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(secret))
    environment.pop("RAY_ADDRESS", None)  # Ray would join that cluster
    environment.update(RAY_USAGE_STATS_ENABLED="0", RAY_CHDIR_TO_TRIAL_DIR="0")
    environment.update(TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")  # the session writes its own logs
    environment.update(TUNE_DISABLE_SIGINT_HANDLER="1")  # it would mark stopped trials as failed
    environment.update(RAY_memory_monitor_refresh_ms="0")  # it counts the whole machine; Slurm limits the job
    # Since 2.60 each worker would lead a group of its own, which neither our warning nor our kill reaches.
    environment.update(RAY_process_group_cleanup_enabled="false")
    environment.update(RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0")  # Slurm gives no time to drain a node
    return environment


def end_group(child: subprocess.Popen[bytes], grace: float) -> None:
    """Send SIGINT, so that Ray ends its processes, and SIGKILL after `grace` seconds."""
    for number, seconds in ((signal.SIGINT, grace), (signal.SIGKILL, 5.0)):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, number)
        deadline = time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
