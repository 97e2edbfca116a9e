"""The endpoints that a verdict is about, written into the sweep's folder before any of them is tested.

RUN/endpoints.json    hypotheses, comparison, adjustment, hashes of data and settings, and when it was written

An endpoint that is changed once predictions for it exist is marked: its verdict was not fixed beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpc.plan.sweep_plan import Plan
from hpc.settings.ablation import AblateSettings
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.ablation.power import ALPHA, power_of
from skin_gan.ablation.verdict import WORTHWHILE
from skin_gan.data.splits import N_FOLDS
from skin_gan.data.store import Store, open_store
from skin_gan.folders import RunFolder
from skin_gan.identity import content_hash
from skin_gan.io import read_json, write_json

BY_LESION = "by lesion"
HELD_OUT = "another source"
# The predictions by which an endpoint is tested, of any arm
TESTED = {
    BY_LESION: f"fold-[0-{N_FOLDS - 1}]/seed-*/test.npz",
    HELD_OUT: f"fold-[!0-{N_FOLDS - 1}]*/seed-*/test.npz",
    OUTSIDE: f"fold-*/seed-*/{OUTSIDE}.npz",
}
ADJUSTMENT = (
    "In fixed sequence (Maurer 1995): the adjusted p value of an endpoint is the largest of its own and of "
    "those before it, so that the probability of any false finding stays at 5%."
)


def file_of(run: RunFolder) -> Path:
    return run.path / "endpoints.json"


def endpoints(a: AblateSettings, data: Store) -> list[dict[str, Any]]:
    """The endpoints in the order of their test, each with all that decides its comparison."""
    name = next((name for name, plan in a.classifiers.items() if plan.by_lesion), None)
    if name is None:
        return []
    plan = a.classifiers[name]
    shared = {
        "classifier": name,
        "measure": "balanced_accuracy",
        "hypothesis": "generated images do not change the measure on these photographs; tested on both sides",
        "comparison": "the arm with generated images that each fold chose, minus the strongest arm without "
        "that it chose, on the same lesions and seeds",
        "chosen_by": a.choose_by,
        "alpha": ALPHA,
        "worthwhile": WORTHWHILE,
        "data": data.fingerprint,
        "settings": content_hash([asdict(plan), a.balance, sorted(a.sources)]),
    }
    folds = [fold for fold in a.folds if fold < N_FOLDS]
    lesions = {label: round(n * len(folds) / N_FOLDS) for label, n in data.lesions.items()}
    found = [{"name": BY_LESION, **shared, "folds": folds, "lesions": lesions}]
    if a.by_source:
        sources = {str(N_FOLDS + i): name for i, name in enumerate(data.sources)}
        found.append({"name": HELD_OUT, **shared, "sources": sources, "lesions": dict(data.lesions)})
    if a.external:
        there = open_store(a.external)
        outside = {"folds": folds, "outside": there.fingerprint, "lesions": dict(there.lesions)}
        found.append({"name": OUTSIDE, **shared, **outside})
    return found


def fix(plan: Plan, data: Store, code: str) -> None:
    """Write the endpoints, unless they are there. `code`: hash of the code that runs."""
    known = {e["name"]: e for e in read(plan.run)}
    written = []
    for endpoint in endpoints(plan.experiment.ablate, data):
        name, identity = endpoint["name"], content_hash(endpoint)
        if known.get(name, {}).get("id") == identity:
            written.append(known[name])
            continue
        tested = any(plan.run.path.glob(f"ablation/{endpoint['classifier']}/*/{TESTED[name]}"))
        detectable = round(power_of(endpoint["lesions"]).detectable, 4)
        date = time.strftime("%Y-%m-%d", time.gmtime())
        made = {"before_testing": not tested, "detectable": detectable, "code": code, "date": date}
        written.append({**endpoint, "id": identity, **made})
    if written != list(known.values()):
        write_json(file_of(plan.run), {"adjustment": ADJUSTMENT, "endpoints": written})


def read(run: RunFolder) -> Sequence[dict[str, Any]]:
    """The endpoints as they were written; none in sweeps of earlier versions."""
    return (read_json(file_of(run)) or {}).get("endpoints", [])


def power_lines(a: AblateSettings, data: Store) -> list[str]:
    """A line for each endpoint on the gain that it can find."""
    return [f"power, {e['name']}: {power_of(e['lesions']).brief}" for e in endpoints(a, data)]
