"""Which classifier runs of a sweep are finished, and which are missing or damaged. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpc.ablation import COMBINED, ArmTask, arm_folder, arm_tasks, choices_file, combined_tasks, part
from hpc.config import Experiment
from skin_gan.ablation.predictions import Predictions, load
from skin_gan.errors import SkinGanError
from skin_gan.run import RunFolder, read_json

TEST = "test.npz"


@dataclass(frozen=True)
class Gap:
    """A classifier run without usable test predictions."""

    classifier: str
    arm: str
    split: str  # as `part` names it: fold-0, ..., by-image
    seed: int
    why: str


@dataclass
class Finished:
    """The runs of one classifier with their test predictions, what was chosen, and what lacks."""

    runs: dict[str, dict[str, dict[int, Predictions]]] = field(default_factory=dict)  # by arm, split, seed
    choices: dict[str, Any] = field(default_factory=dict)  # fixed on validation images
    gaps: list[Gap] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # what else is damaged

    @property
    def splits(self) -> list[str]:
        return sorted({split for of_arm in self.runs.values() for split in of_arm})

    @property
    def folds(self) -> list[str]:
        """Splits by lesion."""
        return [split for split in self.splits if split != part(None)]


def classifiers(run: RunFolder, e: Experiment) -> list[str]:
    """Those asked for, the headline first, which is by lesion, and then any of an earlier launch."""
    there = sorted(path.name for path in (run.path / "ablation").glob("*") if path.is_dir())
    asked = sorted(e.ablate.classifiers, key=lambda name: not e.ablate.classifiers[name].by_lesion)
    return list(dict.fromkeys([*asked, *there]))


def finished(run: RunFolder, e: Experiment, classifier: str) -> Finished:
    """All that is on disk, in the settings' order; a run that was asked for and cannot be read is a gap."""
    found = Finished()
    try:
        found.choices = read_json(choices_file(run, classifier)) or {}
    except SkinGanError as error:
        found.problems.append(_relative(error, run))
    asked = {arm_folder(run, t, seed): t.arm for t, seed in _asked(e, classifier, found.choices)}
    there = sorted((run.path / "ablation" / classifier).glob("*/*/seed-[0-9]*"))
    for folder in dict.fromkeys([*asked, *there]):
        slug, split, seed = folder.parts[-3], folder.parts[-2], int(folder.name.removeprefix("seed-"))
        try:
            predictions = _load(folder)
        except SkinGanError as error:
            found.gaps.append(Gap(classifier, asked.get(folder, slug), split, seed, _relative(error, run)))
            continue
        arm = predictions.record["arm"]["name"]
        found.runs.setdefault(arm, {}).setdefault(split, {})[seed] = predictions
    return found


def _asked(e: Experiment, classifier: str, choices: dict[str, Any]) -> list[tuple[ArmTask, int]]:
    tasks = [t for t in arm_tasks(e.ablate) if t.classifier == classifier]
    combined = choices.get("combined", COMBINED)  # None where there is nothing to combine
    if combined:
        last = [t for t in combined_tasks(e.ablate) if t.classifier == classifier]
        tasks += [replace(t, arm=combined) for t in last]
    return [(t, seed) for t in tasks for seed in range(e.ablate.classifiers[classifier].seeds)]


def _load(folder: Path) -> Predictions:
    if not folder.exists():
        raise SkinGanError("not started")
    if not (folder / TEST).exists():
        raise SkinGanError("not finished")
    return load(folder / TEST)


def _relative(error: SkinGanError, run: RunFolder) -> str:
    """The message without where on this machine the sweep is."""
    return str(error).replace(f"{run.path}/", "")
