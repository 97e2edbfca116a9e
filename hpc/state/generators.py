"""The selected generators of a sweep, in RUN/best/CLASS and RUN/final/best/CLASS. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc.plan.sweep_plan import Plan, confirm_run
from skin_gan import generator
from skin_gan.config import TrialSpec, spec_from
from skin_gan.folders import COMPLETED, RunFolder, TrialFolder
from skin_gan.io import read_json


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card of the generator in a folder; None if there is none."""
    path = folder / generator.CARD
    return generator.read_yaml(path) if path.exists() else None


def data_kind(plan: Plan) -> str:
    """The kind of the sweep's data, such as ham10000; "" before its first launch has written it down."""
    return str((read_json(plan.run.provenance) or {}).get("data", {}).get("kind", ""))


def final_run(plan: Plan) -> RunFolder:
    """The folder of the final trainings, laid out like a sweep's."""
    return RunFolder(plan.run.path / "final")


def training_of(run: RunFolder, card: dict[str, Any]) -> TrialFolder:
    """The training under `run` from which the generator with this card was exported."""
    home = confirm_run(run) if card.get("confirmed") else run
    return home.trial(card["label"], card["index"], card["trial_id"])


def chosen(plan: Plan, label: str) -> tuple[TrialSpec, TrialFolder] | None:
    """The selected trial of the class and the folder of its final training; None if none is selected."""
    card = read_card(plan.run.best(label))
    if card and card.get("confirmed"):
        again = spec_from(generator.read_yaml(training_of(plan.run, card).spec))
        return again, final_run(plan).trial(label, again.index, again.id)
    named = (spec for spec, folder in plan.trials(label) if card and folder.path.name == card["trial"])
    spec = next(named, None)
    return (spec, final_run(plan).trial(label, spec.index, spec.id)) if spec else None


def finished(plan: Plan, label: str) -> bool:
    """Whether the final training of the selected trial has reached its full length and been exported."""
    if (found := chosen(plan, label)) is None:
        return False
    state, card = found[1].state(), read_card(final_run(plan).best(label)) or {}
    exported = state["state"] == COMPLETED and card.get("trial") == found[1].path.name
    return exported and card["trained_kimg"] >= plan.experiment.final.kimg
