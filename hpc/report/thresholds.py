"""Melanoma's threshold of each classifier run, read off its own validation images. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hpc.ablation import slug
from skin_gan.ablation.measures import MELANOMA, cutoff
from skin_gan.ablation.predictions import Predictions, load
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder

VALIDATION = "val.npz"  # beside test.npz
Runs = Mapping[str, Mapping[str, Mapping[int, Predictions]]]  # by arm, split and seed


def with_alarms(run: RunFolder, classifier: str, runs: Runs) -> tuple[Runs, list[str]]:
    """`runs` with their alarms, and what is damaged; none where validation images were not predicted."""
    problems = []

    def marked(split: str, seed: int, p: Predictions) -> Predictions:
        file = (
            run.path
            / "ablation"
            / classifier
            / slug(p.record["arm"]["name"])
            / split
            / f"seed-{seed}"
            / VALIDATION
        )
        if MELANOMA not in p.classes or not file.exists():
            return p
        try:
            val = load(file)
            if val.record.get("id") != p.record.get("id"):
                raise SkinGanError(f"{file} is of another run than {file.with_name('test.npz').name}")
        except SkinGanError as error:
            problems.append(str(error).replace(f"{run.path}/", ""))
            return p
        mel = p.classes.index(MELANOMA)
        return replace(p, alarms=p.probabilities[:, mel] > cutoff(val.labels, val.probabilities, mel))

    found = {arm: {split: {seed: marked(split, seed, p) for seed, p in of_split.items()}
                   for split, of_split in by.items()} for arm, by in runs.items()}  # fmt: skip
    return found, problems
