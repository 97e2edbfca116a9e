"""Leaderboard to best generators: the lowest KID on validation images of those that are not rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpc.plan.sweep_plan import Plan
from hpc.settings.compose import SelectSettings
from skin_gan.words import ACCEPTED, POOR, REJECTED


@dataclass(frozen=True)
class Selected:
    """The chosen trial of a class, and what its card says of the choice."""

    row: dict[str, Any]
    judgement: dict[str, Any]  # of `judgement`


def judgement(row: dict[str, Any], s: SelectSettings) -> dict[str, Any]:
    """What a generator's card says of its choice: accepted, selection (a word), reasons for that word."""
    against = rejections(row, s)
    reasons = against or distance(row, s)
    word = REJECTED if against else POOR if reasons else ACCEPTED
    return {"accepted": not against, "selection": word, "reasons": reasons}


def word_of(card: Mapping[str, Any]) -> str:
    """The selection's word on a generator, by its card or by the manifest of its images."""
    if not card["accepted"]:
        return REJECTED
    return POOR if card["reasons"] else ACCEPTED


def distance(row: dict[str, Any], s: SelectSettings) -> list[str]:
    """Why an accepted generator is poor; empty if it is not."""
    above = row["kid"] - (row["kid_floor"] or 0.0)
    if above <= s.poor_kid:
        return []
    return [f"KID: {row['kid']:.1f}, {above:.0f} above what real images score; above {s.poor_kid:g} is poor"]


def rejections(row: dict[str, Any], s: SelectSettings) -> list[str]:
    """Why this generator must not be used, whatever its KID; empty if nothing speaks against it.

    Copies of training images lower KID, and so does a generator that draws a few good images over and over;
    KID alone sees neither.
    """
    reasons = []
    if row["copies"] is None or row["copies"] > s.max_copies:
        reasons.append(f"copies: {_show(row['copies'])} of its images are judged copies of training images; "
                       f"at most {s.max_copies:g} are allowed")  # fmt: skip
    floor = row["coverage_floor"]
    need = None if floor is None else s.min_coverage * floor
    if row["coverage"] is None or need is None or row["coverage"] < need:
        reasons.append(f"coverage: {_show(row['coverage'])}; at least {_show(need)} is required, "
                       f"{s.min_coverage:g} of what real images reach ({_show(floor)})")  # fmt: skip
    return reasons


def _show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def choose(rows: list[dict[str, Any]], s: SelectSettings) -> Selected | None:
    """The best of one class's leaderboard rows, or None where no trial was evaluated.

    Where every trial is rejected: the one with the fewest reasons against it, then the lowest KID.
    """
    measured = [row for row in rows if row["kid"] is not None]
    if not measured:
        return None
    row = min(measured, key=lambda row: (len(rejections(row, s)), row["kid"]))
    return Selected(row, judgement(row, s))


def export_best(plan: Plan, rows: list[dict[str, Any]]) -> dict[str, Selected]:
    """Write best/CLASS/ for every class that has an evaluated trial."""
    from skin_gan.generate import export  # torch

    chosen = {}
    for label in plan.experiment.classes:
        selected = choose([row for row in rows if row["class"] == label], plan.experiment.select)
        if selected is None:
            continue
        chosen[label] = selected
        folder = next(f for _, f in plan.trials(label) if f.path.name == selected.row["trial"])
        export(
            folder,
            plan.run.best(label),
            {
                "sweep": plan.experiment.sweep,
                "trial": folder.path.name,
                **selected.judgement,
                "trials": sum(row["class"] == label for row in rows),
            },
        )
    return chosen
