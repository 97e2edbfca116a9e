"""Ranks a class's trials: the lowest KID on validation images among those not rejected. The leaderboard."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpc.plan.sweep_plan import Plan
from hpc.settings.compose import SelectSettings
from hpc.settings.space import searched, value_at
from skin_gan.folders import TrialFolder
from skin_gan.io import read_jsonl, write_atomic
from skin_gan.metrics.scores import declared
from skin_gan.training.tags import WATCHED
from skin_gan.training.watch import best_of
from skin_gan.words import ACCEPTED, POOR, REJECTED

FIRST = (
    "kid", "kid_low", "kid_high", "kid_floor", "fd", "fd_floor", "precision", "precision_floor", "recall",
    "recall_floor", "density", "density_floor", "coverage", "coverage_floor", "c2st", "c2st_floor",
    "copies", "collapse", "checkerboard", "checkerboard_low", "checkerboard_high", "kid2", "kid2_floor",
    "coverage2", "recall2",
)  # fmt: skip
DISPUTE = "the two networks disagree on the order of"


def best_row(folder: TrialFolder) -> dict[str, Any] | None:
    """The trial's evaluation that best.pt holds, chosen by KID and coverage."""
    return best_of([row for row in read_jsonl(folder.metrics) if "kid" in row])


def leaderboard(plan: Plan) -> list[dict[str, Any]]:
    """A row per trial, sorted by class and by KID x1000 at its best evaluation; trials without one are last.

    `kimg` is the training at that evaluation, `trained_kimg` the whole training.
    """
    return [row for label in plan.experiment.classes for row in class_rows(plan, label)]


def class_rows(plan: Plan, label: str) -> list[dict[str, Any]]:
    """The class's rows of the leaderboard."""
    names = searched(plan.experiment.search.space)
    columns = (*dict.fromkeys((*FIRST, *declared())), "extractor", "extractor2", *WATCHED, "n_real", "n_fake",
               "note")  # fmt: skip
    of_class = []
    for spec, folder in plan.trials(label):
        state, best = folder.state(), best_row(folder)
        row: dict[str, Any] = {"class": label, "trial": folder.path.name, "state": state["state"]}
        row["kimg"] = best["kimg"] if best else None
        row["trained_kimg"] = state.get("kimg")
        row.update({name: best.get(name) if best else None for name in columns})
        row["note"] = "; ".join(filter(None, (row["note"], flagged(state))))
        row.update({name: value_at(spec.settings, name) for name in names})
        row["reason"] = state.get("reason", "")
        of_class.append(row)
    return noted(sorted(of_class, key=lambda r: (r["kid"] is None, r["kid"] or 0.0, r["trial"])))


def flagged(state: Mapping[str, Any]) -> str:
    """What a leaderboard row's note says of a trial whose last evaluations raised an alarm; "" of others."""
    return f"alarm: {state['alarm']}" if state.get("alarm") else ""


def noted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One class's rows by KID, each with a note of those below it that the second network places above."""
    for place, row in enumerate(rows):
        others = [below["trial"][:4] for below in rows[place + 1 :] if in_dispute(row, below)]
        if others:
            said = f"{DISPUTE} {row['trial'][:4]} and {', '.join(others)}"
            row["note"] = "; ".join(filter(None, (row["note"], said)))
    return rows


def in_dispute(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether one of two generators has the lower KID by the one network, and the other by the second."""
    if None in (a["kid"], b["kid"], a["kid2"], b["kid2"]):
        return False
    return bool((a["kid"] - b["kid"]) * (a["kid2"] - b["kid2"]) < 0)


def dispute(row: Mapping[str, Any]) -> str:
    """The sentence in a leaderboard row's note on the networks' disagreement; "" without one."""
    return next((said for said in (row.get("note") or "").split("; ") if said.startswith(DISPUTE)), "")


def write_leaderboard(plan: Plan, remarks: Mapping[tuple[str, str], str]) -> list[dict[str, Any]]:
    """Write leaderboard.csv and return its rows; `remarks`: added to notes, by class and trial (0003)."""
    rows = leaderboard(plan)
    for row in rows:
        said = remarks.get((row["class"], row["trial"][:4]))
        row["note"] = "; ".join(filter(None, (row["note"], said)))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: rounded(value) for name, value in row.items()} for row in rows)
    write_atomic(plan.run.leaderboard, text.getvalue())
    return rows


def rounded(value: Any) -> Any:
    """A number as the table shows it, to six significant digits: metrics.jsonl has them all."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


@dataclass(frozen=True)
class Selected:
    """The selected trial of a class and its `judgement`."""

    row: dict[str, Any]
    judgement: dict[str, Any]


def judgement(row: dict[str, Any], s: SelectSettings) -> dict[str, Any]:
    """The fields of a generator's card about its selection: accepted, selection (a word), reasons."""
    rejected = rejections(row, s)
    reasons = rejected or distance(row, s)
    word = REJECTED if rejected else POOR if reasons else ACCEPTED
    return {"accepted": not rejected, "selection": word, "reasons": reasons}


def word_of(card: Mapping[str, Any]) -> str:
    """Accepted, poor or rejected, by a generator's card or the manifest of its images."""
    if not card["accepted"]:
        return REJECTED
    return POOR if card["reasons"] else ACCEPTED


def distance(row: dict[str, Any], s: SelectSettings) -> list[str]:
    """The reason why an accepted generator is poor; empty if it is not."""
    above = row["kid"] - (row["kid_floor"] or 0.0)
    if above <= s.poor_kid:
        return []
    said = f"KID x1000: {row['kid']:.1f}, {above:.0f} above what real images score"
    return [f"{said}; above {s.poor_kid:g} is poor"]


def rejections(row: dict[str, Any], s: SelectSettings) -> list[str]:
    """The reasons to reject a generator whatever its KID; empty if there are none.

    A generator that copies training images, or repeats a few good images, may still have a low KID.
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
    """The best of one class's leaderboard rows; None if no trial was evaluated.

    This is the row with the fewest reasons for rejection, then with the lowest KID.
    """
    found = ranked(rows, s)
    return Selected(found[0], judgement(found[0], s)) if found else None


def ranked(rows: list[dict[str, Any]], s: SelectSettings) -> list[dict[str, Any]]:
    """The evaluated ones of a class's rows, the best first: by reasons for rejection, then by KID."""
    measured = [row for row in rows if row["kid"] is not None]
    return sorted(measured, key=lambda row: (len(rejections(row, s)), row["kid"]))
