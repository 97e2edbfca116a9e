"""Exports each class's generator to RUN/best/CLASS: of the confirmed setting, else the search's best."""

from __future__ import annotations

from typing import Any

from hpc.plan.sweep_plan import Plan
from hpc.stages.confirmation import Decision, remarks, write_confirmation
from hpc.stages.select import best_row, choose, judgement, write_leaderboard
from hpc.state.generators import data_kind
from hpc.state.records import Tell
from skin_gan.errors import SkinGanError
from skin_gan.folders import TrialFolder
from skin_gan.io import read_json


def select(plan: Plan, label: str, tell: Tell) -> None:
    """Write the leaderboard and the confirmation, and export the generator of each class."""
    rows, decisions = write_results(plan)
    if not any(row["kid"] is not None for row in rows):
        raise SkinGanError(
            f"no trial in {plan.run.path} has been evaluated: see the jobs' logs in {plan.run.jobs}"
        )
    export_best(plan, rows, decisions)


def write_results(plan: Plan) -> tuple[list[dict[str, Any]], dict[str, Decision]]:
    """Write leaderboard.csv and what confirms it; returns the rows, and the decisions by class."""
    decisions = write_confirmation(plan) if plan.experiment.confirm.seeds else {}
    return write_leaderboard(plan, remarks(decisions.values())), decisions


def export_best(plan: Plan, rows: list[dict[str, Any]], decisions: dict[str, Decision]) -> None:
    """Write best/CLASS/ for every class that has an evaluated trial."""
    from skin_gan.generator import save_generator  # torch

    for label in plan.experiment.classes:
        found = confirmed(plan, decisions[label]) if label in decisions else searched(plan, label, rows)
        if found is not None:
            folder, card = found
            trials = sum(row["class"] == label for row in rows)
            made = {"sweep": plan.experiment.sweep, "trial": folder.path.name, "data_kind": data_kind(plan)}
            card = {**made, **card, "trials": trials}
            save_generator(folder, plan.run.best(label), card)


def searched(plan: Plan, label: str, rows: list[dict[str, Any]]) -> tuple[TrialFolder, dict[str, Any]] | None:
    """The search's best trial of a class, and its card's fields on the selection; None without any."""
    selected = choose([row for row in rows if row["class"] == label], plan.experiment.select)
    if selected is None:
        return None
    return next(f for _, f in plan.trials(label) if f.path.name == selected.row["trial"]), selected.judgement


def confirmed(plan: Plan, d: Decision) -> tuple[TrialFolder, dict[str, Any]]:
    """The training whose generator a class exports, and its card's fields: metrics of the confirming half."""
    folder = d.settings[d.chosen].generator
    assert folder is not None, "a chosen setting has trainings"
    record = read_json(folder.confirmed) or {}
    row = {key: value for key, value in record.items() if key not in ("by_lesion", "shares")}
    metrics = {**(best_row(folder) or {}), **row}
    return folder, {
        **judgement(metrics, plan.experiment.select), "metrics": metrics, "confirmed": True,
        "setting": d.settings[d.chosen].candidate.name,
    }  # fmt: skip
