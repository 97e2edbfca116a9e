"""The chosen generators of a sweep, in RUN/best/CLASS and RUN/final/best/CLASS. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc.plan.sweep_plan import Plan
from hpc.settings.yaml_tree import read_yaml
from skin_gan.config import TrialSpec
from skin_gan.folders import COMPLETED, RunFolder, TrialFolder


def read_card(folder: Path) -> dict[str, Any] | None:
    """What is known of the generator in a folder; None where there is none."""
    path = folder / "generator.yaml"
    return read_yaml(path) if path.exists() else None


def final_run(plan: Plan) -> RunFolder:
    return RunFolder(plan.run.path / "final")


def chosen(plan: Plan, label: str) -> tuple[TrialSpec, TrialFolder] | None:
    """The trial of the class's generator, and where it is trained anew; None if there is none."""
    card = read_card(plan.run.best(label))
    named = (spec for spec, folder in plan.trials(label) if card and folder.path.name == card["trial"])
    spec = next(named, None)
    return (spec, final_run(plan).trial(label, spec.index, spec.id)) if spec else None


def finished(plan: Plan, label: str) -> bool:
    """Whether the generator that is chosen now has been trained to full length and exported."""
    if (found := chosen(plan, label)) is None:
        return False
    state, card = found[1].state(), read_card(final_run(plan).best(label)) or {}
    of_it = state["state"] == COMPLETED and card.get("trial") == found[1].path.name
    return of_it and card["trained_kimg"] >= plan.experiment.final.kimg
