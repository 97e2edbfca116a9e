"""Finds the classifier runs of a sweep that are finished, and those that are missing or damaged. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpc.plan import ablation
from hpc.plan.ablation import ArmTask, Choice, part
from hpc.settings.ablation import COMBINED, arms
from hpc.settings.compose import Experiment
from hpc.stages.current_runs import EARLIER, Current
from skin_gan.ablation.arm import Arm
from skin_gan.ablation.measures import MELANOMA, cutoff
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.ablation.predictions import Predictions, load
from skin_gan.data.splits import N_FOLDS
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder


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
    """The finished runs of one classifier with test predictions, its choices, and the missing runs."""

    runs: dict[str, dict[str, dict[int, Predictions]]] = field(default_factory=dict)  # by arm, split, seed
    outside: dict[str, dict[str, dict[int, Predictions]]] = field(default_factory=dict)  # likewise, outside
    choices: dict[int, Choice] = field(default_factory=dict)  # by fold
    asked: list[int] = field(default_factory=list)  # the folds of the settings
    gaps: list[Gap] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # other damage

    @property
    def splits(self) -> list[str]:
        return sorted({split for of_arm in self.runs.values() for split in of_arm})

    @property
    def folds(self) -> list[str]:
        """The folds, each of all sources."""
        return [split for split in self.splits if split != part(None) and split not in self.sources]

    @property
    def sources(self) -> list[str]:
        """The folds that hold out a source each."""
        return [part(fold) for fold in sorted(self.asked) if fold >= N_FOLDS and part(fold) in self.splits]


def classifiers(e: Experiment) -> list[str]:
    """The sweep's classifiers, those that are tested by lesion first; the first is the headline."""
    return sorted(e.ablate.classifiers, key=lambda name: not e.ablate.classifiers[name].by_lesion)


def finished(current: Current, classifier: str) -> Finished:
    """The runs that the present settings ask for, in order. A run that cannot be used is a gap."""
    found, run, a = Finished(asked=current.e.ablate.folds), current.run, current.e.ablate
    plan = a.classifiers[classifier]
    known = arms(a, plan)
    asked: set[Path] = set()
    for task in ablation.arm_tasks(a):
        if task.classifier == classifier:
            asked |= _add(found, current, task, known[task.arm])
    try:
        found.choices = ablation.choices(run, classifier, a.folds)
    except SkinGanError as error:
        found.problems.append(_relative(error, run))
    for fold in list(found.choices):
        try:
            _check_choice(current, classifier, fold, found)
        except SkinGanError as error:
            found.problems.append(_relative(error, run))
            del found.choices[fold]
    for task in ablation.combined_tasks(a):
        if task.classifier != classifier or task.fold is None:
            continue
        chosen = found.choices.get(task.fold)
        name = chosen["combined"] if chosen else COMBINED  # None if there is nothing to combine
        if name and name not in known:
            arm = ablation.combined(a, plan, chosen) if chosen else None
            asked |= _add(found, current, replace(task, arm=name), arm)
    found.problems += earlier(run, classifier, asked)
    return found


def earlier(run: RunFolder, classifier: str, asked: Collection[Path] = ()) -> list[str]:
    """A line on the runs on disk that the present settings do not ask for, if there are any."""
    folders = (run.path / "ablation" / classifier).glob("*/*/seed-[0-9]*")
    others = sorted({folder.parts[-3] for folder in folders if folder not in asked})
    return [f"{classifier}: runs {EARLIER} are left out: {', '.join(others)}"] if others else []


def _add(found: Finished, current: Current, task: ArmTask, arm: Arm | None) -> set[Path]:
    """Add every seed of a task to `found`; `arm`: None if it is not chosen yet. Returns the runs' folders."""
    folders = set()
    for seed in range(current.e.ablate.classifiers[task.classifier].seeds):
        folders.add(ablation.arm_folder(current.run, task, seed))
        try:
            if arm is None:
                raise SkinGanError("not started")
            for name in ablation.parts(current.e.ablate, task.fold):
                if name != "val":
                    predictions = current.read(task, arm, seed, name)
                    runs = found.outside if name == OUTSIDE else found.runs
                    runs.setdefault(task.arm, {}).setdefault(part(task.fold), {})[seed] = predictions
        except SkinGanError as error:
            why = _relative(error, current.run)
            found.gaps.append(Gap(task.classifier, task.arm, part(task.fold), seed, why))
    return folders


def _check_choice(current: Current, classifier: str, fold: int, found: Finished) -> None:
    """SkinGanError if a fold's choice was made from other runs than those `found`."""
    chosen, a = found.choices[fold], current.e.ablate
    plan = a.classifiers[classifier]
    in_fold = {
        arm: [p.record["id"] for p in by.get(part(fold), {}).values()] for arm, by in found.runs.items()
    }
    whole = {arm for arm, ids in in_fold.items() if len(ids) == plan.seeds}
    chosen_from = set(chosen["validation"])
    ids = {identity for arm in chosen_from for identity in in_fold.get(arm, ())}
    if (by := chosen.get("by", "balanced_accuracy")) != a.choose_by:
        raise SkinGanError(
            f"{ablation.choices_file(current.run, classifier)}, fold {fold}, was decided by {by}, and "
            f"ablate.choose_by is {a.choose_by}: launch the sweep again"
        )
    others = whole - chosen_from or chosen_from - set(arms(a, plan))
    if others or not ids <= set(chosen.get("runs", ids)):  # an earlier version did not write the runs
        file = ablation.choices_file(current.run, classifier)
        raise SkinGanError(f"{file}, fold {fold}, was fixed on runs {EARLIER}: launch the sweep again")


def _relative(error: SkinGanError, run: RunFolder) -> str:
    """The message with paths relative to the sweep's folder."""
    return str(error).replace(f"{run.path}/", "")


Runs = Mapping[str, Mapping[str, Mapping[int, Predictions]]]  # by arm, split and seed


def with_alarms(run: RunFolder, classifier: str, runs: Runs) -> tuple[Runs, list[str]]:
    """`runs` with melanoma alarms, whose threshold is from validation images, and a line per damaged file.

    Runs without predictions on validation images get no alarms.
    """
    problems = []

    def marked(split: str, seed: int, p: Predictions) -> Predictions:
        fold = None if split == part(None) else int(split.removeprefix("fold-"))
        task = ArmTask(classifier, p.record["arm"]["name"], fold)
        file = ablation.arm_folder(run, task, seed) / "val.npz"
        if MELANOMA not in p.classes or not file.exists():
            return p
        try:
            val = load(file)
            if val.record.get("id") != p.record.get("id"):
                raise SkinGanError(f"{file} is of another run than {file.with_name('test.npz').name}")
        except SkinGanError as error:
            problems.append(_relative(error, run))
            return p
        mel = p.classes.index(MELANOMA)
        return replace(p, alarms=p.probabilities[:, mel] > cutoff(val.labels, val.probabilities, mel))

    found = {arm: {split: {seed: marked(split, seed, p) for seed, p in of_split.items()}
                   for split, of_split in by.items()} for arm, by in runs.items()}  # fmt: skip
    return found, problems
