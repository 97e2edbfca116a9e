"""The real commands, and the processes that they start on this machine."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from places import ROOT

MICRO = ("sweep=aegan_lr", "data=demo", "budget=micro", "cluster=local")


def hpc(
    script: str, *words: str, timeout: float = 400, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run hpc/SCRIPT.py from another folder; what it printed is shown where a test fails."""
    command = [sys.executable, str(ROOT / "hpc" / f"{script}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd="/", env=env)
    print(done.stdout, done.stderr)
    return done


def command(results: Path, *words: str) -> list[str]:
    """The command line of a short sweep on this machine."""
    return [sys.executable, str(ROOT / "hpc" / "launch.py"), *MICRO, f"results={results}", *words]


def launch(results: Path, *words: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run that command to its end."""
    return hpc("launch", *MICRO, f"results={results}", *words, timeout=timeout)


def run_of(said: str) -> Path:
    """The sweep's folder, which a launch prints last."""
    last = said.rstrip().splitlines()[-1]
    assert last.startswith("results: ")
    return Path(last.removeprefix("results: "))


def rows_of(run: Path) -> list[dict[str, str]]:
    """The leaderboard."""
    with (run / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """Each living process with the words of its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            if words := path.read_bytes().decode(errors="replace").split("\0"):
                yield int(path.parent.name), words


def ours_alive(results: Path) -> list[str]:
    """Command lines of other processes that name the results folder: launches, jobs, searches."""
    lines = {pid: " ".join(words) for pid, words in command_lines() if pid != os.getpid()}
    return [line for line in lines.values() if str(results) in line]


def processes(folder: Path, *words: str) -> list[int]:
    """Ids of the processes whose command line has these words and a path inside the folder."""
    return [
        pid
        for pid, line in command_lines()
        if set(words) <= set(line) and any(word.startswith(str(folder)) for word in line)
    ]


def drivers(folder: Path) -> list[int]:
    """Ids of the processes in which the Ray of a sweep in the folder runs."""
    return processes(folder, "hpc.search.ray_tune")


def trainers(drivers: list[int]) -> list[int]:
    """Ids of the processes that train for these searches: Ray names them after class or action."""
    sessions, found = {os.getsid(pid) for pid in drivers}, []
    for pid, words in command_lines():
        with suppress(OSError):
            if words[0].startswith(("ray::Trial", "ray::ResourceTrainable")) and os.getsid(pid) in sessions:
                found.append(pid)
    return found
