"""Formats a sweep's progress: tables, one-line summaries, time left. No torch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hpc.plan.sweep_plan import PREPARE, SEARCH, Stage
from hpc.state.snapshot import ENDED, ClassProgress, Record, Snapshot, State
from skin_gan.folders import ALARMED, COMPLETED, DIVERGED, FAILED, PRUNED, RUNNING

STYLES = {RUNNING: "cyan", COMPLETED: "green", PRUNED: "yellow", ALARMED: "yellow", DIVERGED: "red",
          FAILED: "bold red"}  # fmt: skip


@dataclass
class Clock:
    """Estimates the time left from the training done since the clock started."""

    started: float = field(default_factory=time.monotonic)
    kimg: float | None = None

    def left(self, s: Snapshot) -> float | None:
        """Seconds until the search ends at the pace so far; None while that is unknown."""
        if self.kimg is None:
            self.started, self.kimg = time.monotonic(), s.kimg
        done = s.kimg - self.kimg
        if done <= 0:
            return None
        return s.kimg_left / done * (time.monotonic() - self.started)


def duration(seconds: float | None) -> str:
    """Such as "2 h 05 min" or "4 min 10 s"; "unknown" for None."""
    if seconds is None:
        return "unknown"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m:02d} min" if hours else f"{m} min {s:02d} s" if m else f"{s} s"


def time_left(seconds: float | None) -> str:
    """Such as "; left about 4 min 10 s"; "" while that is unknown."""
    return "" if seconds is None else f"; left about {duration(seconds)}"


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
        f"best KID x1000 {best or 'none yet'}{time_left(left)}"
    )


def stage_line(s: Snapshot) -> list[str]:
    """Progress of a stage other than the search, in parts: the jobs done, and the running ones."""
    stage = next(stage for stage in s.stages if stage.name == s.stage)
    running = [job for job in stage.jobs if s.record(job).get("state") == "running"]
    done = sum(s.done(job) for job in stage.jobs)
    what = "features of real images" if s.stage == PREPARE else ""
    now = [f"{job.label or what}{job_progress(s.record(job))}".strip() for job in running]
    left = stage_left(s, stage, len(running))
    return [
        f"{s.stage}:",
        f"{done}/{len(stage.jobs)} jobs done; now",
        ", ".join(filter(None, now)) or "starting",
        *([] if left is None else [f"; left in all about {duration(left)}"]),
    ]


def stage_left(s: Snapshot, stage: Stage, running: int) -> float | None:
    """Seconds until all jobs of the stage have ended, by those that have; None while that is unknown."""
    records = [s.record(job) for job in stage.jobs if s.done(job)]
    took = [r["ended"] - r["started"] for r in records if {"ended", "started"} <= r.keys()]
    if not took or not running:
        return None
    return sum(took) / len(took) * (len(stage.jobs) - len(records)) / running


def job_progress(record: Record) -> str:
    """What a job waits for, or its progress and the time left; "" if its record has neither."""
    if record.get("waiting"):
        return f" {record['waiting']}"
    if not record.get("total"):
        return ""
    left = record.get("left")
    time_left = "" if left is None else f" (left about {duration(left)})"
    return f" {record.get('done', 0)}/{record['total']}{time_left}"


def table(s: Snapshot) -> Table:
    """The progress of the search, a row per class."""
    t = Table(box=None, pad_edge=False, header_style="bold")
    names = "class", "ended", "running", "pruned", "failed", "kimg", "img/s", "best KID x1000", "trial now"
    for name in names:
        t.add_column(name, justify="left" if name in ("class", "trial now") else "right")
    for c in s.classes:
        now = ", ".join(map(trial_progress, c.running))
        speed = sum(x.get("images_per_second") or 0.0 for x in c.running)
        failed = c.job.get("state") == "failed"
        t.add_row(
            c.label,
            f"{c.count(*ENDED)}/{c.planned}",
            str(len(c.running)),
            str(c.count(PRUNED, ALARMED)),
            str(c.count(DIVERGED, FAILED)),
            f"{c.kimg:.1f}",
            f"{speed:.0f}" if speed else "",
            f"{c.best['best_kid']:.1f}" if c.best else "",
            now or c.job.get("waiting") or (c.job.get("error", "") if failed or c.job.get("limit") else ""),
        )
    return t


def trial_progress(trial: State) -> str:
    """A running trial: its index, and its kimg and target or what it waits for."""
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
            x.get("reason") or x.get("alarm", ""),
        )
    return t


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def display(s: Snapshot, left: float | None) -> Group:
    """The live display of a launch: the table of the search only while it changes."""
    if s.stage != SEARCH:
        return Group(Text.assemble((s.experiment.sweep, "bold"), f"  {line(s, left)}"))
    head = f"  stage {s.stage}  {s.kimg:.1f} kimg trained{time_left(left)}"
    return Group(Text.assemble((s.experiment.sweep, "bold"), head), table(s))
