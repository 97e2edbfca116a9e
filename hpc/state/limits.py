"""What a sweep has used of its limits, limit.device_hours and limit.disk. No torch.

Running jobs ask between trials, rungs and steps of a stage, and stop themselves where a limit is reached. A
launch with larger limits goes on from there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpc.plan.sweep_plan import FINAL, SEARCH, SELECT, Plan, nodes_of, processes
from hpc.settings import compose
from hpc.settings.compose import Experiment
from hpc.state.snapshot import Snapshot, snapshot
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder

GB = 1e9
EVERY = 20.0  # seconds between two looks of a stage that reports its progress


class LimitReached(SkinGanError):
    """The sweep has used what it may: its jobs stop themselves, and have not failed."""


def check(run: RunFolder) -> None:
    """LimitReached, saying which, if the sweep has used what it may by its settings as they are now."""
    if why := reached(run):
        raise LimitReached(why)


def reached(run: RunFolder) -> str:
    """The limit that is reached, in words; "" if none is."""
    if not run.settings.exists():
        return ""
    e = compose.load(run.settings)
    hours, disk = e.limit.device_hours, e.limit.disk
    if hours and (used := device_hours(snapshot(run, e))) >= hours:
        return f"limit.device_hours={hours:g} is reached: {used:.3g} device-hours are used"
    if disk and (used := size(run.path) / GB) >= disk:
        return f"limit.disk={disk:g} is reached: the sweep's folder holds {used:.3g} GB"
    return ""


def closed(plan: Plan, stage: str) -> str:
    """The limit that keeps jobs of a stage from starting, in words; "" if they may.

    The selection may start in any case if there is a generator to select.
    """
    why = reached(plan.run)
    if why and stage == SELECT and any(c.best for c in snapshot(plan.run, plan.experiment).classes):
        return ""
    return why


def checking(run: RunFolder, tell: Callable[..., None]) -> Callable[..., None]:
    """A function that reports a stage's progress by `tell`, and raises LimitReached at a limit."""
    last = time.monotonic()

    def told(**more: Any) -> None:
        nonlocal last
        tell(**more)
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            check(run)

    return told


def device_hours(s: Snapshot) -> float:
    """Hours of one device (a GPU, a slot's share of one, or operations.threads cores) used so far."""
    trials = sum(seconds_of_trial(t) for c in s.classes for t in c.trials) * devices(s.experiment, SEARCH)
    jobs = (
        seconds_of(record) * devices(s.experiment, name.partition("-")[0])
        for name, record in s.records.items()
        if not name.startswith(f"{SEARCH}-")  # their trials are counted: a search may have idle slots
    )
    return (trials + sum(jobs)) / 3600


def devices(e: Experiment, stage: str) -> int:
    """Devices that a trial, or a job of another stage, trains on."""
    if stage == FINAL:
        return nodes_of(e, stage) * processes(e, stage)
    return e.profile.devices_per_trial if stage == SEARCH else 1


def seconds_of(record: Mapping[str, Any]) -> float:
    """How long all runs of a job took, by its record; of earlier versions the last run."""
    spent = record["ended"] - record["started"] if {"ended", "started"} <= record.keys() else 0.0
    return float(record.get("seconds", spent))


def seconds_of_trial(state: Mapping[str, Any]) -> float:
    """How long a trial took, by its state; of earlier versions its training."""
    speed = state.get("images_per_second")
    return float(state.get("seconds", 1000 * state.get("kimg", 0.0) / speed if speed else 0.0))


def size(folder: Path) -> int:
    """Bytes of all files in a folder; those that vanish meanwhile do not count."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue
    return total
