"""Prints the summary at the end of a launch: best generators, verdicts, paths. No torch."""

from __future__ import annotations

import csv

from rich.console import Console
from rich.table import Table

from hpc.plan.precision import described
from hpc.plan.sweep_plan import Plan
from hpc.stages.select import word_of
from hpc.state.confirmed import told
from hpc.state.generators import read_card
from skin_gan.io import read_json


def conclude(console: Console, plan: Plan) -> None:
    """Print the best generator of each class, the verdicts, and the paths of results."""
    t = Table("class", "best trial", "KID x1000", "95% interval", "real vs real", "coverage", "copies",
              "selection", box=None, header_style="bold")  # fmt: skip
    for label in plan.experiment.classes:
        card = read_card(plan.run.best(label))
        if card is None:
            t.add_row(label, "none was evaluated")
            continue
        m, selection = card["metrics"], ": ".join(filter(None, [word_of(card), "; ".join(card["reasons"])]))
        t.add_row(label, card["trial"], f"{m['kid']:.1f}", f"{m['kid_low']:.1f} to {m['kid_high']:.1f}",
                  f"{m['kid_floor']:.1f}", f"{m['coverage']:.2f}", f"{m['copies']:.2f}",
                  selection)  # fmt: skip
    console.print(t)
    if measured := described(plan.run):
        console.print(f"train.precision=auto: {measured}", highlight=False)
    data = read_json(plan.run.provenance) or {}
    if data.get("data", {}).get("kind") == "demo":
        console.print("The data is the built-in drawing of lesions: this shows that the software works, and "
                      "nothing about skin.")  # fmt: skip
    for said in told(plan.run, plan.experiment):
        console.print(said, highlight=False)
    conclude_ablation(console, plan)
    console.print(f"leaderboard: {plan.run.leaderboard}")
    for sheet in sorted((plan.run.path / "best").glob("*/samples.png")):
        console.print(f"images: {sheet}")
    console.print(f"review: tensorboard --logdir {plan.run.path}")


def conclude_ablation(console: Console, plan: Plan) -> None:
    """Print whether generated images helped: the report's sentences and its gains."""
    path = plan.run.path / "report" / "gains.csv"
    if not path.exists():
        return
    for line in (read_json(path.with_name("verdict.json")) or {}).get("sentences", []):
        console.print(line, style="bold")
    heads = ("classifier", "folds", "arm", "against", "gain in balanced accuracy")
    t = Table(*heads, box=None, header_style="bold")
    for row in csv.DictReader(path.read_text().splitlines()):
        if row["measure"] == "balanced_accuracy":
            t.add_row(
                *map(row.get, ("classifier", "scope", "arm", "base")), f"{row['verdict']}: {row['why']}"
            )
    console.print(t)
    console.print(f"report: {plan.run.path / 'report' / 'index.html'}")
