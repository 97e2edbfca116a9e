"""A sweep's folder with synthetic predictions whose verdicts are known: for the tests of the report."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hpc.plan.ablation import ArmTask, arm_folder, choices_file
from hpc.settings import compose
from skin_gan.ablation.arm import Arm, on_top
from skin_gan.ablation.arms import ARMS
from skin_gan.ablation.classifiers import CLASSIFIERS
from skin_gan.ablation.predictions import Predictions, predictions
from skin_gan.ablation.runs import ArmRun
from skin_gan.folders import RunFolder
from skin_gan.io import write_json

CLASSES = ("df", "mel", "nv")
LESIONS = {"df": 60, "mel": 80, "nv": 120}  # in each fold, two photographs of every second one
PHOTOGRAPHS = {"df": 30, "mel": 40, "nv": 60}  # that a classifier is trained on
STRONGEST, COMBINED = "class_weights", "best+class_weights"
# How much of each class an arm finds, 0..1: from 0.6 of the plain arm
SKILL = {"real": 0.6, "class_weights": 0.7, "strong": 0.6, "best": 0.6, "shuffled": 0.45, COMBINED: 0.82}
ASKED = ["real", "class_weights", "strong", "best", "shuffled"]


def arm(name: str) -> Arm:
    if name == COMBINED:
        return on_top(ARMS["best"], ARMS[STRONGEST])
    return ARMS.get(name) or Arm(name, synthetic="add", source=name)


def outcome(name: str, fold: int, seed: int, skill: float, unverified: Sequence[str] = ()) -> Predictions:
    """Predictions that are right in `skill` of the images; the same images are hard for every arm."""
    labels, lesions, photos = [], [], []
    for k, (label, n) in enumerate(LESIONS.items()):
        for lesion in range(n):
            for photo in range(2 if lesion % 2 else 1):
                labels.append(k)
                lesions.append(f"{label}-{fold}-{lesion:03d}")
                photos.append(f"{label}-{fold}-{lesion:03d}-{photo}")
    y = np.array(labels)
    shared = np.random.default_rng([7, fold]).random(len(y))
    own = np.random.default_rng([zlib.crc32(name.encode()), fold, seed]).normal(0, 0.01, len(y))
    right = shared + own < skill
    guess = np.where(right, y, (y + 1) % len(CLASSES))
    p = np.full((len(y), len(CLASSES)), 0.1, np.float32)
    p[np.arange(len(y)), guess] = 0.8
    run = ArmRun(CLASSIFIERS["head"], arm(name), seed, f"fold{fold}")
    record = {"id": run.id, **asdict(run), "seconds": 36.0, "honest": True}
    made = {"": 0, "best": 40}.get(arm(name).source, 45)  # the sets are told apart by their sizes alone
    record["real"], record["synthetic"] = dict(PHOTOGRAPHS), dict.fromkeys(CLASSES, made)
    record["unverified"], record["loss"] = list(unverified), [(10, 2.0), (20, 1.0 - skill)]
    return predictions(CLASSES, np.array(photos), np.array(lesions), y, p, record)


def folder_of(run: RunFolder, name: str, fold: int | None, seed: int, classifier: str = "head") -> Path:
    return arm_folder(run, ArmTask(classifier, name, fold), seed)


def make_run(
    place: Path, folds: Sequence[int] = (0,), seeds: int = 2, skill: dict[str, float] | None = None
) -> RunFolder:
    """A finished ablation of the classifier `head`."""
    run = RunFolder(place / "aegan_lr" / "synthetic-1a2b3c4d")
    words = ["sweep=aegan_lr", "budget=micro", f"results={place}", f"classes=[{','.join(CLASSES)}]",
             f"ablate.folds=[{','.join(map(str, folds))}]", "ablate.unverified=true",
             "ablate.sources.shuffled=elsewhere", f"ablate.classifiers.head.seeds={seeds}",
             f"ablate.classifiers.head.arms=[{','.join(ASKED)}]"]  # fmt: skip
    e = compose.compose(words)
    e.ablate.classifiers = {"head": e.ablate.classifiers["head"]}
    compose.save(e, run.settings)
    for name, value in {**SKILL, **(skill or {})}.items():
        for fold in folds:
            for seed in range(seeds):
                unknown = CLASSES if name == "shuffled" else ()
                outcome(name, fold, seed, value, unknown).save(folder_of(run, name, fold, seed) / "test.npz")
    chosen = {"strongest": STRONGEST, "treatment": STRONGEST, "generated": "best", "ratio": None,
              "filter": None, "combined": COMBINED,
              "validation": {name: SKILL[name] for name in ASKED}}  # fmt: skip
    write_json(choices_file(run, "head"), {"folds": {str(fold): chosen for fold in folds}})
    write_json(run.provenance, origin())
    return run


def origin(kind: str = "folder") -> dict:
    counts = {c: 5 * n for c, n in LESIONS.items()}
    return {
        "data": {"name": "synthetic", "kind": kind, "fingerprint": "0f" * 8, "unit": "lesion",
                 "partial": False, "counts": counts, "notes": []},
        "commit": "c0ffee", "modified": False, "python": "3.11", "packages": {"numpy": "2"},
        "machine": {"host": "secret-host", "system": "Linux", "cores": 2},
    }  # fmt: skip


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def write_choices(run: RunFolder, fold: int | None = None, **changes: object) -> None:
    """Other choices of one fold, or (None) of all."""
    file = choices_file(run, "head")
    there = json.loads(file.read_text())["folds"]
    mine = there if fold is None else [str(fold)]
    write_json(file, {"folds": there | {f: {**there[f], **changes} for f in mine}})
