"""Compares sweeps side by side: settings that differ, the best KID of each class, hours. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from hpc.plan.sweep_plan import SEARCH
from hpc.settings.compose import flat
from hpc.state.generators import read_card
from hpc.state.snapshot import ClassProgress, Snapshot, snapshot
from skin_gan.folders import RunFolder
from skin_gan.io import read_jsonl

FOLLOWS = ("about", "results", "dry_run")  # settings that say nothing about what was searched
CONFIRMED = "confirmed_kid"  # column of the leaderboard: the mean of new trainings on other lesions


@dataclass(frozen=True)
class Compared:
    """One sweep's row."""

    run: RunFolder
    stage: str
    settings: dict[str, Any]  # by dotted name
    kids: dict[str, float | None]  # KID x1000 of each class's selected trial; before the selection the lowest
    confirmed: dict[str, float | None]  # the same of the class's confirmation; None without one
    hours: float  # of one device

    @property
    def name(self) -> str:
        return f"{self.run.path.parent.name}/{self.run.path.name}"


def compared(run: RunFolder) -> Compared:
    """Read one sweep's folder. SkinGanError if it is none, or damaged."""
    s = snapshot(run)
    board = leaderboard(run)
    cards = {c.label: read_card(run.best(c.label)) or {} for c in s.classes}
    rows = {label: board.get((label, str(card.get("trial"))), {}) for label, card in cards.items()}
    return Compared(
        run=run,
        stage=s.stage,
        settings={k: v for k, v in flat(asdict(s.experiment)).items() if k not in FOLLOWS},
        kids={c.label: best_kid(c, cards[c.label]) for c in s.classes},
        confirmed={k: float(row[CONFIRMED]) if row.get(CONFIRMED) else None for k, row in rows.items()},
        hours=device_hours(run, s),
    )


def leaderboard(run: RunFolder) -> dict[tuple[str, str], dict[str, str]]:
    """The rows of leaderboard.csv by class and trial; {} before the selection."""
    if not run.leaderboard.exists():
        return {}
    with run.leaderboard.open(newline="") as file:
        return {(row["class"], row["trial"]): row for row in csv.DictReader(file)}


def best_kid(c: ClassProgress, card: dict[str, Any]) -> float | None:
    """KID x1000 of the selected generator; before the selection the lowest so far."""
    if "metrics" in card:
        return card["metrics"].get("kid")  # type: ignore[no-any-return]
    return c.best["best_kid"] if c.best else None


def device_hours(run: RunFolder, s: Snapshot) -> float:
    """Hours of one device: of trials up to their last evaluation, of other stages by their jobs' records."""
    last = (read_jsonl(path)[-1:] for path in run.trials.glob("*/*/metrics.jsonl"))
    trained = sum(row.get("seconds", 0.0) for rows in last for row in rows)
    others = (r for name, r in s.records.items() if not name.startswith(SEARCH) and "ended" in r)
    return float(trained + sum(r["ended"] - r.get("started", r["ended"]) for r in others)) / 3600


def differing_settings(sweeps: Sequence[Compared]) -> list[str]:
    """The dotted names of settings whose values are not the same in all sweeps."""
    names = dict.fromkeys(name for sweep in sweeps for name in sweep.settings)
    return [n for n in names if any(s.settings.get(n) != sweeps[0].settings.get(n) for s in sweeps)]


def columns(sweeps: Sequence[Compared]) -> list[dict[str, Any]]:
    """For each sweep its values by name; the names are the same for all, None is a value it lacks."""
    labels = dict.fromkeys(label for sweep in sweeps for label in sweep.kids)
    confirmed = [label for label in labels if any(s.confirmed.get(label) is not None for s in sweeps)]
    return [
        {
            "stage": s.stage,
            **{name: s.settings.get(name) for name in differing_settings(sweeps)},
            **{f"kid {label}": s.kids.get(label) for label in labels},
            **{f"confirmed kid {label}": s.confirmed.get(label) for label in confirmed},
            "device-hours": round(s.hours, 2),
        }
        for s in sweeps
    ]


def as_table(sweeps: Sequence[Compared]) -> Table:
    """A column per sweep; KID x1000."""
    t = Table(box=None, pad_edge=False, header_style="bold")
    t.add_column("KID x1000")
    for sweep in sweeps:
        t.add_column(sweep.name, justify="right", overflow="fold")
    found = columns(sweeps)
    for name in found[0]:
        t.add_row(name, *(_cell(name, one[name]) for one in found))
    return t


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if "kid " in name else str(value)


def as_csv(sweeps: Sequence[Compared]) -> str:
    """A row per sweep; KID x1000 in full precision."""
    found = [{"folder": str(s.run.path), **one} for s, one in zip(sweeps, columns(sweeps), strict=True)]
    text = io.StringIO()
    writer = csv.DictWriter(text, found[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()
