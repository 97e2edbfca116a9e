"""The sample sets and classifier runs that the ablation's settings ask for, and their folders. No torch.

RUN/folds/1/aegan/best/df/                          a generator retrained for fold 1
RUN/samples/fold-0/best/df/images.npy               generated images of a source
RUN/filters/fold-0/df.json                          which of them each filter keeps
RUN/ablation/cnn/best/fold-0/seed-2/test.npz        predictions of one classifier run
RUN/ablation/cnn/choices.json                       each fold's choices, made on its validation images
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, cast

from hpc.settings.ablation import (
    BEST,
    BY_IMAGE,
    COMBINED,
    PLAIN,
    RANDOM,
    AblateSettings,
    ClassifierPlan,
    arms,
    named,
)
from skin_gan.ablation.arm import TREATMENT, WAYS, Arm, on_top, ways
from skin_gan.ablation.arms import CONTROLS
from skin_gan.ablation.balance import wanted
from skin_gan.ablation.classifiers import CLASSIFIERS, PUBLISHED, ClassifierSettings
from skin_gan.ablation.measures import DECIDING
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.data.splits import N_FOLDS
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.identity import differing
from skin_gan.io import lock, read_json, write_json

POOL = 2.0  # generated images per needed image where filters choose among them


@dataclass(frozen=True)
class ArmTask:
    """One arm of one classifier in one fold with all its seeds: the work of one job of the ablation."""

    classifier: str
    arm: str
    fold: int | None  # None: the split by image

    @property
    def label(self) -> str:
        return f"{self.classifier}-{slug(self.arm)}-{part(self.fold)}"


def part(fold: int | None) -> str:
    """The split's name in paths: fold-0, ..., or by-image."""
    return BY_IMAGE if fold is None else f"fold-{fold}"


def parts(a: AblateSettings, fold: int | None) -> tuple[str, ...]:
    """The parts of the data that a classifier run predicts."""
    if fold is None:
        return ("test",)
    return ("val", "test", OUTSIDE) if a.external and fold < N_FOLDS else ("val", "test")


def slug(arm: str) -> str:
    """The arm's name in paths."""
    return arm.replace("/", "_").replace(" ", "_")


def arm_tasks(a: AblateSettings) -> list[ArmTask]:
    """All tasks except the combined arms, the headline classifier's first."""
    honest = [
        ArmTask(name, arm, fold)
        for name, plan in a.classifiers.items()
        for arm in arms(a, plan)
        for fold in folds(a, plan)
    ]
    leaky = [ArmTask(name, arm, None) for name, plan in a.classifiers.items() for arm in by_image(a, plan)]
    return honest + leaky


def folds(a: AblateSettings, plan: ClassifierPlan) -> list[int]:
    """The folds that the classifier is tested on by lesion."""
    return a.folds if plan.by_lesion else []


def without_whole(a: AblateSettings) -> tuple[AblateSettings, list[str]]:
    """The settings without arms that need generated images of every class, and the names of these arms."""
    whole = [name for plan in a.classifiers.values() for name, arm in arms(a, plan).items()
             if arm.synthetic == "alone"]  # fmt: skip
    plans = {k: replace(p, arms=[x for x in p.arms if x not in whole]) for k, p in a.classifiers.items()}
    used = list(dict.fromkeys(whole))
    return replace(a, classifiers=plans), used


def by_image(a: AblateSettings, plan: ClassifierPlan) -> list[str]:
    """Arms that are repeated with a split by image: the plain one and those that add generated images."""
    if not plan.by_image:
        return []
    return [name for name, arm in arms(a, plan).items() if name in plan.arms and name not in CONTROLS
            and (name == PLAIN or arm.synthetic == "add")]  # fmt: skip


@dataclass(frozen=True)
class SampleTask:
    """The generated images of one class for one fold: the work of one job of the stage generate."""

    lesion_class: str
    fold: int

    @property
    def label(self) -> str:
        return f"{self.lesion_class}-{part(self.fold)}"


def sample_tasks(a: AblateSettings, classes: list[str]) -> list[SampleTask]:
    """The tasks of the stage generate."""
    return [SampleTask(label, fold) for fold in a.folds for label in classes]


def combined_tasks(a: AblateSettings) -> list[ArmTask]:
    """The tasks of the stage combine; each fold's choice decides their arm."""
    return [ArmTask(name, COMBINED, fold) for name, plan in a.classifiers.items() for fold in folds(a, plan)]


def classifier_of(a: AblateSettings, label: str) -> str:
    """The classifier of the job with this label of the stage ablate or combine."""
    return next(t.classifier for t in (*arm_tasks(a), *combined_tasks(a)) if t.label == label)


def classifier_settings(name: str, plan: ClassifierPlan, size: int) -> ClassifierSettings:
    """The settings of a classifier; `size`: pixels of its images, unless it has a size of its own."""
    settings = CLASSIFIERS[name]
    own = settings.size if name in PUBLISHED else size
    return replace(settings, size=own, steps=plan.steps or settings.steps, pretrained=plan.pretrained)


def sizes(a: AblateSettings, size: int) -> list[int]:
    """The image sizes that are needed: the sweep's `size` and those of classifiers with their own."""
    return sorted({size} | {classifier_settings(name, p, size).size for name, p in a.classifiers.items()})


def needs_all_features(a: AblateSettings) -> bool:
    """Whether some stage reads the frozen network's features of the photographs of every class.

    A head and the filter by confidence are trained on them, and the report uses them to find copies among
    generated images.
    """
    heads = (name for name in a.classifiers if CLASSIFIERS[name].network == "head")
    return bool(sources(a)) or any(heads)


class Shares(TypedDict, total=False):
    """Fractions of the images in the test and validation parts, 0..1."""

    test: float
    val: float


def image_shares(classifier: str) -> Shares:
    """The published fractions of the classifier's split by image, for `image_split`; empty if unpublished."""
    known = PUBLISHED.get(classifier)
    return {"test": known.test, "val": known.val} if known else {}


def sources(a: AblateSettings) -> list[str]:
    """The sources whose images any arm uses."""
    used = {arm.source for plan in a.classifiers.values() for arm in arms(a, plan).values()} - {""}
    return sorted(used)


def images_needed(
    a: AblateSettings, source: str, counts: dict[str, int], label: str, fold: int | None = 0
) -> int:
    """The largest number of generated images of a class that any arm needs.

    `counts`: real training images per class; `fold`: None for the split by image, which has fewer arms.
    """
    most = 0.0
    for plan in a.classifiers.values():
        leaky = by_image(a, plan)
        for name, arm in arms(a, plan).items():
            if arm.source == source and (name in leaky if fold is None else plan.by_lesion):
                # the best filter may be combined with the best ratio
                pool = POOL if arm.filter or (plan.filters and name not in plan.arms) else 1.0
                most = max(most, wanted(arm, counts)[label] * pool)
    return round(most)


def fold_folder(run: RunFolder, fold: int, source: str) -> RunFolder:
    """The folder of a source's generators that were retrained for a fold."""
    return RunFolder(run.path / "folds" / str(fold) / source)


def sample_folder(run: RunFolder, fold: int, source: str) -> Path:
    return run.path / "samples" / f"fold-{fold}" / source


def filter_file(run: RunFolder, fold: int, label: str) -> Path:
    return run.path / "filters" / f"fold-{fold}" / f"{label}.json"


def arm_folder(run: RunFolder, task: ArmTask, seed: int) -> Path:
    return run.path / "ablation" / task.classifier / slug(task.arm) / part(task.fold) / f"seed-{seed}"


def external_sources(a: AblateSettings) -> dict[str, Path]:
    """The paths of the sources that are images from elsewhere; all other sources are sweeps."""
    paths = {name: Path(path) for name, path in a.sources.items()}
    return {name: path for name, path in paths.items() if not RunFolder(path).settings.exists()}


class Choice(TypedDict, total=False):
    """The choices of the stage combine in a fold, on its validation images."""

    strongest: str | None  # the best arm without generated images: the baseline
    treatment: str | None  # the best arm without generated or repeated images
    generated: str | None  # the arm whose generated images are added to the treatment
    ratio: str | None  # the best ratio's arm; None if `generated` is better
    way: str | None  # the best way of using them, such as best+light; None if `generated` is better
    filter: str | None  # the best filter's arm; None if `generated` is better
    by: str  # the measure that decided; missing in files of earlier versions: balanced accuracy
    validation: dict[str, float]  # balanced accuracy, 0..1, of each candidate arm
    measured: dict[str, dict[str, float]]  # each arm's measures in `skin_gan.ablation.measures.DECIDING`
    combined: str | None  # the arm that was trained; None without generated images
    runs: list[str]  # ids of the runs that were compared; missing in files of earlier versions


def choices_file(run: RunFolder, classifier: str) -> Path:
    return run.path / "ablation" / classifier / "choices.json"


def choices(run: RunFolder, classifier: str, folds: Sequence[int]) -> dict[int, Choice]:
    """The recorded choices of those of `folds` that have one.

    SkinGanError for a file of an earlier version that chose for several folds together or by another rule.
    """
    file = choices_file(run, classifier)
    found = read_json(file) or {}
    if "folds" not in found and found:
        if len(folds) > 1 or "treatment" not in found:
            raise SkinGanError(
                f"{file} was written by an earlier version, which chose for all folds together: launch the "
                "sweep again to choose for each fold"
            )
        return {folds[0]: cast(Choice, found)}
    return {fold: found["folds"][str(fold)] for fold in folds if str(fold) in found.get("folds", {})}


def write_choice(run: RunFolder, classifier: str, fold: int, chosen: Choice) -> None:
    """Add a fold's choice to the file; jobs of other folds may write to it at the same time."""
    file = choices_file(run, classifier)
    with lock(file.with_suffix(".lock"), wait=math.inf):
        try:
            before = read_json(file) or {}
        except SkinGanError:  # damaged: the other folds choose again
            before = {}
        write_json(file, {"folds": {**before.get("folds", {}), str(fold): chosen}})


def choose_by(measured: dict[str, dict[str, float]], plan: ClassifierPlan, by: str) -> Choice:
    """`choose` by one of several measures, all of which are recorded; `measured`: by arm and measure."""
    chosen = choose({arm: DECIDING[by] * of_arm[by] for arm, of_arm in measured.items()}, plan)
    shares = {arm: of_arm["balanced_accuracy"] for arm, of_arm in measured.items()}
    return {**chosen, "by": by, "validation": shares, "measured": measured}


def choose(validation: dict[str, float], plan: ClassifierPlan) -> Choice:
    """Choose a fold's arms, ratio, way and filter; `validation`: a value by arm, of which more is better.

    A ratio or way must beat `best`, and a filter its random control. If the settings do not name the arm
    `best`, the best other source takes its place.
    """
    known = {name: value for name, value in validation.items() if name in plan.arms}
    made = {name: named(name) for name in known}
    conventional = [a for a in known if made[a].synthetic == "none"]
    conventional.sort(key=lambda arm: arm != PLAIN)  # of equal arms `max` takes the plain, then the first
    others = [a for a in known if made[a].synthetic == "add" and not {*a.split("+")} & {*CONTROLS}]
    asked = BEST in plan.arms
    ratios = {
        f"{BEST}@{r:g}": validation[f"{BEST}@{r:g}"] for r in plan.ratios if f"{BEST}@{r:g}" in validation
    }
    plain = validation.get(BEST, float("-inf"))
    ratio = max(ratios, key=lambda r: ratios[r], default=None)
    gains = {
        f"{BEST}/{name}": validation[f"{BEST}/{name}"] - validation.get(f"{BEST}/{RANDOM}{name}", plain)
        for name in plan.filters
        if f"{BEST}/{name}" in validation
    }
    filter_ = max(gains, key=lambda f: gains[f], default=None)
    of_best = {a: known[a] for a in others if made[a].source == BEST and ways(made[a])
               and not {*TREATMENT} & {*differing(made[a])}}  # fmt: skip
    way = max(of_best, key=lambda a: of_best[a], default=None)
    return {
        "strongest": max(conventional, key=lambda a: known[a], default=None),
        "treatment": max((a for a in conventional if not made[a].duplicate), key=lambda a: known[a],
                         default=None),
        "generated": BEST if asked else max(others, key=lambda a: known[a], default=None),
        "ratio": ratio if asked and ratio and ratios[ratio] > plain else None,
        "way": way if asked and way and of_best[way] > plain else None,
        "filter": filter_ if asked and filter_ and gains[filter_] > 0 else None,
        "validation": validation,
    }  # fmt: skip


def combined(a: AblateSettings, plan: ClassifierPlan, chosen: Choice) -> Arm | None:
    """The arm with the chosen generated images on top of the chosen treatment; None if there are none."""
    known = arms(a, plan)
    name = chosen["filter"] or chosen["ratio"] or chosen["generated"]
    if name not in known:
        return None
    arm = known[name]
    if chosen["filter"] and chosen["ratio"]:
        ratio = known[chosen["ratio"]].balance
        arm = replace(arm, name=f"{arm.name}@{ratio:g}", balance=ratio)
    if way := chosen.get("way"):
        balance = arm.balance if chosen["ratio"] else known[way].balance
        used = {field: getattr(known[way], field) for field in WAYS}
        arm = replace(arm, name=arm.name + way.removeprefix(BEST), balance=balance, **used)
    treatment = chosen["treatment"] or PLAIN
    return arm if treatment == PLAIN else on_top(arm, known[treatment])
