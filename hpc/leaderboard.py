"""Trials to leaderboard: one row per trial of every class, from the run folder. No torch."""

from __future__ import annotations

import csv
import io
from typing import Any

from hpc.plan import Plan
from hpc.space import searched, value_at
from skin_gan.folders import TrialFolder
from skin_gan.io import read_jsonl, write_atomic

METRICS = (
    "kid", "kid_low", "kid_high", "kid_floor", "fd", "fd_floor", "precision", "precision_floor", "recall",
    "recall_floor", "density", "density_floor", "coverage", "coverage_floor", "c2st", "c2st_floor", "copies",
    "collapse", "checkerboard", "n_real", "n_fake", "note",
)  # fmt: skip


def best_row(folder: TrialFolder) -> dict[str, Any] | None:
    """The trial's evaluation with the lowest KID: that of best.pt."""
    measured = [row for row in read_jsonl(folder.metrics) if row.get("kid") is not None]
    return min(measured, key=lambda row: row["kid"], default=None)


def leaderboard(plan: Plan) -> list[dict[str, Any]]:
    """Rows by class, then KID x1000 at the trial's best evaluation; trials without one come last.

    `kimg` is where that evaluation was made, `trained_kimg` how far the trial went.
    """
    names = searched(plan.experiment.search.space)
    rows = []
    for label in plan.experiment.classes:
        of_class = []
        for spec, folder in plan.trials(label):
            state, best = folder.state(), best_row(folder)
            row: dict[str, Any] = {"class": label, "trial": folder.path.name, "state": state["state"]}
            row["kimg"] = best["kimg"] if best else None
            row["trained_kimg"] = state.get("kimg")
            row.update({name: best.get(name) if best else None for name in METRICS})
            row.update({name: value_at(spec.settings, name) for name in names})
            row["reason"] = state.get("reason", "")
            of_class.append(row)
        rows += sorted(of_class, key=lambda r: (r["kid"] is None, r["kid"] or 0.0, r["trial"]))
    return rows


def write_leaderboard(plan: Plan) -> list[dict[str, Any]]:
    """Write leaderboard.csv and return its rows."""
    rows = leaderboard(plan)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(plan.run.leaderboard, text.getvalue())
    return rows
