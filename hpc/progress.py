"""What a sweep has reached, from its folder alone: for status, live display and time left. No torch."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hpc import config
from hpc.config import Experiment
from hpc.plan import PREPARE, SEARCH, Job, Stage, expected_kimg, stages_of
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, DIVERGED, FAILED, PENDING, PRUNED, RUNNING, RunFolder, TrialFolder
from skin_gan.io import locked, read_json

ENDED = (COMPLETED, PRUNED, DIVERGED, FAILED)
STYLES = {RUNNING: "cyan", COMPLETED: "green", PRUNED: "yellow", DIVERGED: "red", FAILED: "bold red"}


@dataclass
class ClassProgress:
    """The trials of one class: states from their folders, in the order of their index."""

    label: str
    planned: int
    trials: list[dict[str, Any]] = field(default_factory=list)  # state.json of each, with its "name"
    job: dict[str, Any] = field(default_factory=dict)

    def count(self, *states: str) -> int:
        return sum(t["state"] in states for t in self.trials)

    @cached_property
    def ended(self) -> set[int]:
        """Indices of the trials that have ended."""
        return {int(t["name"].partition("-")[0]) for t in self.trials if t["state"] in ENDED}

    @property
    def kimg(self) -> float:
        return sum(t.get("kimg", 0.0) for t in self.trials)

    @property
    def running(self) -> list[dict[str, Any]]:
        return [t for t in self.trials if t["state"] == RUNNING]

    @property
    def best(self) -> dict[str, Any] | None:
        measured = [t for t in self.trials if t.get("best_kid") is not None]
        return min(measured, key=lambda t: t["best_kid"], default=None)


@dataclass
class Snapshot:
    """A sweep at one instant."""

    run: RunFolder
    experiment: Experiment
    classes: list[ClassProgress]
    jobs: dict[str, dict[str, Any]]
    launcher: bool  # whether a launch is watching over it on this machine

    @property
    def stage(self) -> str:
        return next((s.name for s in self.stages if any(not self.done(job) for job in s.jobs)), "done")

    @property
    def stages(self) -> tuple[Stage, ...]:
        return stages_of(self.experiment)

    def done(self, job: Job) -> bool:
        if job.stage == SEARCH and job.name not in self.jobs:  # another backend may have trained its trials
            c = next(c for c in self.classes if c.label == job.label)
            return len(c.ended) >= c.planned if job.index is None else job.index in c.ended
        return self.jobs.get(job.name, {}).get("state") == "done"

    @property
    def kimg(self) -> float:
        return sum(c.kimg for c in self.classes)

    @property
    def kimg_left(self) -> float:
        """Expected training still to come: for trials not ended, what successive halving leaves of them."""
        per_trial = expected_kimg(self.experiment.search) / self.experiment.search.trials
        left = 0.0
        for c in self.classes:
            open_trials = c.planned - c.count(*ENDED)
            left += max(0.0, open_trials * per_trial - sum(t.get("kimg", 0.0) for t in c.running))
        return left


def snapshot(run: RunFolder) -> Snapshot:
    """Read the folder. Raises SkinGanError if it is not a sweep's."""
    e = config.load(run.settings)
    jobs = {p.stem: read_json(p) or {} for p in run.jobs.glob("*.json")}
    classes = []
    for label in e.classes:
        trials = [_state(path) for path in sorted((run.trials / label).glob("[0-9]*-*"))]
        # A launch with fewer trials than an earlier one must not hide those that exist.
        classes.append(ClassProgress(label, max(e.search.trials, len(trials)), trials,
                                     jobs.get(f"{SEARCH}-{label}", {})))  # fmt: skip
    return Snapshot(run, e, classes, jobs, locked(run.path / "launch.lock"))


def _state(folder: Path) -> dict[str, Any]:
    """Of a trial whose state is damaged, nothing: the others are worth showing."""
    state = {}
    with contextlib.suppress(SkinGanError):
        state = TrialFolder(folder).state()
    return {"state": PENDING, "reason": "", **state, "name": folder.name}


@dataclass
class Clock:
    """Time left, from the training done while this clock ran."""

    started: float = field(default_factory=time.monotonic)
    kimg: float | None = None

    def left(self, s: Snapshot) -> float | None:
        """Seconds until the search ends at the pace so far, or None while that is unknown."""
        if self.kimg is None:
            self.started, self.kimg = time.monotonic(), s.kimg
        done = s.kimg - self.kimg
        if done <= 0:
            return None
        return s.kimg_left / done * (time.monotonic() - self.started)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m:02d} min" if hours else f"{m} min {s:02d} s" if m else f"{s} s"


def line(s: Snapshot, left: float | None) -> str:
    """One line for a log: stage, running trials, best KID, time left."""
    if s.stage == "done":
        return "every stage is done"
    if s.stage != SEARCH:
        return " ".join(stage_line(s))
    now = ", ".join(
        f"{c.label}/{t['name'][:4]} {t.get('kimg', 0):.2f}/{t.get('target', 0):g} kimg"
        for c in s.classes
        for t in c.running
    )
    ended = sum(c.count(*ENDED) for c in s.classes)
    best = ", ".join(f"{c.label} {c.best['best_kid']:.0f}" for c in s.classes if c.best)
    return (
        f"search: {ended}/{sum(c.planned for c in s.classes)} trials ended; now {now or 'starting'}; "
        f"best KID x1000 {best or 'none yet'}; left about {duration(left)}"
    )


def stage_line(s: Snapshot) -> list[str]:
    """A stage other than the search: how many of its jobs are done, and what the others are at."""
    stage = next(stage for stage in s.stages if stage.name == s.stage)
    running = [job for job in stage.jobs if s.jobs.get(job.name, {}).get("state") == "running"]
    done = sum(s.done(job) for job in stage.jobs)
    what = "features of real images" if s.stage == PREPARE else ""
    now = [f"{job.label or what}{share(s.jobs[job.name])}".strip() for job in running]
    return [
        f"{s.stage}:",
        f"{done}/{len(stage.jobs)} jobs done; now",
        ", ".join(filter(None, now)) or "starting",
    ]


def share(record: dict[str, Any]) -> str:
    """What a job waits for, or how much of its work is done and how long the rest takes, where it says so."""
    if record.get("waiting"):
        return f" {record['waiting']}"
    if not record.get("total"):
        return ""
    left = record.get("left")
    time_left = "" if left is None else f" (left about {duration(left)})"
    return f" {record.get('done', 0)}/{record['total']}{time_left}"


def table(s: Snapshot) -> Table:
    """A row per class."""
    t = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "class",
        "ended",
        "running",
        "pruned",
        "failed",
        "kimg",
        "img/s",
        "best KID x1000",
        "trial now",
    ):
        t.add_column(name, justify="left" if name in ("class", "trial now") else "right")
    for c in s.classes:
        now = ", ".join(map(place, c.running))
        speed = sum(x.get("images_per_second") or 0.0 for x in c.running)
        t.add_row(
            c.label,
            f"{c.count(*ENDED)}/{c.planned}",
            str(len(c.running)),
            str(c.count(PRUNED)),
            str(c.count(DIVERGED, FAILED)),
            f"{c.kimg:.1f}",
            f"{speed:.0f}" if speed else "",
            f"{c.best['best_kid']:.1f}" if c.best else "",
            now or c.job.get("waiting") or (c.job.get("error", "") if c.job.get("state") == "failed" else ""),
        )
    return t


def place(trial: dict[str, Any]) -> str:
    """Where a running trial is: its index, the kimg of its target, or what it waits for."""
    where = trial.get("waiting") or f"{trial.get('kimg', 0):.2f}/{trial.get('target', 0):g}"
    return f"{trial['name'][:4]} {where}"


def trial_table(c: ClassProgress) -> Table:
    """A row per trial of a class."""
    t = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", "state", "kimg", "KID x1000", "best KID x1000", "at kimg", "reason"):
        t.add_column(name, justify="left" if name in ("trial", "state", "reason") else "right")
    for x in c.trials:
        t.add_row(
            x["name"],
            Text(x["state"], style=STYLES.get(x["state"], "")),
            f"{x.get('kimg', 0):.2f}",
            _number(x.get("kid")),
            _number(x.get("best_kid")),
            _number(x.get("best_kimg")),
            x.get("reason", ""),
        )
    return t


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def display(s: Snapshot, left: float | None) -> Group:
    """What a launch shows while it runs."""
    head = Text.assemble(
        (f"{s.experiment.sweep}", "bold"), f"  stage {s.stage}  {s.kimg:.1f} kimg trained  ",
        f"left about {duration(left)}" if s.stage == SEARCH else "" if s.stage == "done" else line(s, left),
    )  # fmt: skip
    return Group(head, table(s))
