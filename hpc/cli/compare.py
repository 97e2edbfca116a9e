"""Compares sweeps side by side: settings that differ, the best KID of each class, hours. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from hpc.settings.compose import flat
from hpc.state.confirmed import TABLE
from hpc.state.generators import read_card
from hpc.state.limits import device_hours
from hpc.state.snapshot import ClassProgress, snapshot
from skin_gan.folders import RunFolder

FOLLOWS = ("about", "results", "dry_run", "notify")  # settings that say nothing about what was searched


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
    confirmed = confirmed_kids(run)
    cards = {c.label: read_card(run.best(c.label)) or {} for c in s.classes}
    return Compared(
        run=run,
        stage=s.stage,
        settings={k: v for k, v in flat(asdict(s.experiment)).items() if k not in FOLLOWS},
        kids={c.label: best_kid(c, cards[c.label]) for c in s.classes},
        confirmed={label: confirmed.get(label) for label in cards},
        hours=device_hours(s),
    )


def confirmed_kids(run: RunFolder) -> dict[str, float]:
    """KID x1000 of each class's chosen setting in confirmation.csv; {} without a confirmation."""
    if not (table := run.path / TABLE).exists():
        return {}
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["chosen"] == "True" and row["kid"]]
    return {row["class"]: float(row["kid"]) for row in rows}


def best_kid(c: ClassProgress, card: dict[str, Any]) -> float | None:
    """KID x1000 of the selected generator; before the selection the lowest so far."""
    if "metrics" in card:
        return card["metrics"].get("kid")  # type: ignore[no-any-return]
    return c.best["best_kid"] if c.best else None


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
