"""Prints the end of a launch: the verdict and what to open come first. Lines of 80 columns. No torch."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hpc.cli.summary import wrapped
from hpc.jobs.notify import generators, verdict
from hpc.plan.precision import described
from hpc.plan.sweep_plan import Plan
from hpc.stages.select import word_of
from hpc.state.confirmed import told
from hpc.state.generators import read_card
from skin_gan.folders import RunFolder
from skin_gan.generator import SHEET
from skin_gan.io import read_json

DRAWN = (
    "The data is the built-in drawing of lesions: this shows that the software works, and nothing about skin."
)


def conclude(console: Console, plan: Plan) -> None:
    """Print the verdict, the paths of the report and the pictures, and then the tables behind them."""
    run, sheets = plan.run, [plan.run.best(label) / SHEET for label in plan.experiment.classes]
    report = run.path / "report" / "index.html"
    console.print()
    say(console, *verdict(plan), style="bold")
    say(console, generators(plan))
    if (read_json(run.provenance) or {}).get("data", {}).get("kind") == "demo":
        say(console, DRAWN)
    if report.exists():
        console.print(f"report:      {report}", highlight=False)
    if any(sheet.exists() for sheet in sheets):
        console.print(f"pictures:    {run.best('CLASS') / SHEET}", highlight=False)
    console.print(f"leaderboard: {run.leaderboard}", highlight=False)
    console.print(f"curves:      tensorboard --logdir {run.path}\n", highlight=False)
    console.print(generator_table(plan))
    say(console, *gain_lines(run), *told(run, plan.experiment))
    if measured := described(run):
        say(console, f"train.precision=auto: {measured}")
    if report.exists():
        console.print(f"open the report: python -m webbrowser {report}", highlight=False)


def say(console: Console, *lines: str, style: str = "") -> None:
    """Print the lines, each in parts of at most 79 columns."""
    for line in lines:
        for part in wrapped(line):
            console.print(part, style=style, highlight=False)


def generator_table(plan: Plan) -> Table:
    """A row per class: the chosen trial, its scores, and what the selection made of it."""
    t = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("class", "trial", "KID x1000 (95%)", "real", "coverage", "copies", "selection"):
        t.add_column(name, justify="left" if name in ("class", "trial", "selection") else "right")
    for label in plan.experiment.classes:
        card = read_card(plan.run.best(label))
        if card is None:
            t.add_row(label, "", "", "", "", "", "none was evaluated")
            continue
        m, kinds = card["metrics"], [reason.partition(":")[0] for reason in card["reasons"]]
        kid = f"{m['kid']:.1f} ({m['kid_low']:.1f} to {m['kid_high']:.1f})"
        because = f" ({', '.join(kinds)})" if kinds else ""
        t.add_row(label, card["trial"][:4], kid, f"{m['kid_floor']:.1f}", f"{m['coverage']:.2f}",
                  f"{m['copies']:.2f}", word_of(card) + because)  # fmt: skip
    return t


def gain_lines(run: RunFolder) -> Iterator[str]:
    """A row per arm and base of the report's gains in balanced accuracy; nothing without a report."""
    rows = [
        row for row in read_rows(run.path / "report" / "gains.csv") if row["measure"] == "balanced_accuracy"
    ]
    names = [f"{row['arm']} over {row['base']}" for row in rows]
    width = max(map(len, names), default=0)
    for (classifier, scope), group in groupby(
        zip(rows, names, strict=True), key=lambda pair: (pair[0]["classifier"], pair[0]["scope"])
    ):
        yield f"Gains in balanced accuracy, in points (95%), {classifier}, {scope}:"
        for row, name in group:
            gain, low, high = (100 * float(row[key]) for key in ("gain", "low", "high"))
            yield f"  {name:<{width}} {gain:+6.1f} [{low:+.1f}, {high:+.1f}]  {row['verdict']}"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; [] without one."""
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
