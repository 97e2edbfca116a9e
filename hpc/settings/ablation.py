"""The ablation's settings, the arms that they name, and their validation before any job. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from skin_gan.ablation.arm import Arm, together
from skin_gan.ablation.arms import ARMS, CONTROLS, MADE
from skin_gan.ablation.balance import HIGHEST, LOWEST, images_to_add
from skin_gan.ablation.classifiers import CLASSIFIERS, PUBLISHED
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.ablation.runs import check
from skin_gan.data.splits import N_FOLDS
from skin_gan.errors import SkinGanError
from skin_gan.ranges import setting

BY_IMAGE = "by-image"
COMBINED = "combined"  # arm: the best generator on top of the strongest conventional arm, chosen per fold
STRONGEST = "strongest"  # arm: each fold's strongest conventional arm, where folds have chosen differently
PLAIN = "real"  # arm: real images only, with which all others are compared
BEST = "best"  # source: for each class the best generator of all sweeps
FILTERS = ("confidence", "distance", "discriminator", "copies", "frame", "ruler")
RANDOM = "random as "


def _different_folds(folds: list[int]) -> bool:
    return bool(folds) and len(set(folds)) == len(folds)


@dataclass
class ClassifierPlan:
    """What one classifier is trained on, and how often."""

    arms: list[str] = setting(
        [],
        "what is compared: files in skin_gan/ablation/arms, model families, or names in ablate.sources; "
        "a+b combines them, such as class_weights+mixup",
    )
    seeds: int = setting(3, "trainings of each arm in each fold", least=1)
    steps: int = setting(0, "optimiser updates; 0: the classifier's own number", unit="updates", least=0)
    pretrained: str = setting(
        "", "file of torchvision's weights, for resnet18 or resnet50; empty: trained from scratch"
    )
    ratios: list[float] = setting(
        [], "further arms of the best generator, with so many images per real one", least=LOWEST, most=HIGHEST
    )
    filters: list[str] = setting(
        [], "further arms of the best generator, filtered, each with a random control", among=FILTERS
    )
    by_lesion: bool = setting(True, "tested on ablate.folds, which is what counts")
    by_image: bool = setting(
        False, "also with a split by image, as is often published: it leaks, and shows how much"
    )


@dataclass
class AblateSettings:
    """Do generated images help a classifier? With `ablate.classifiers={}` the chain ends with selection."""

    classifiers: dict[str, ClassifierPlan] = setting(
        {}, f"by name, of {', '.join(CLASSIFIERS)}; the first is the headline"
    )
    folds: list[int] = setting(
        [0], "tested on; others than the search's cost training", least=0,
        form=f"different folds of 0 to {N_FOLDS - 1}", rule=_different_folds,
    )  # fmt: skip
    by_source: bool = setting(
        False,
        "also held out in turn: each value of the metadata's column `dataset`, such as a clinic or a camera, "
        "is tested on by what is trained on the others; costs training like as many folds",
    )
    balance: Any = setting(
        "equalise",
        f"how many images generated arms add: equalise fills classes up to the largest; a ratio of "
        f"{LOWEST:g} to {HIGHEST:g} adds so many per real image; or a count for each class",
    )
    choose_by: Literal["balanced_accuracy", "macro_auc", "balanced_log_loss"] = setting(
        "balanced_accuracy", "what decides on validation images which arm, ratio, way and filter a fold uses"
    )
    sources: dict[str, str] = setting(
        {},
        "more generators, each an arm by its name: another sweep's folder, or images of any origin (a folder "
        "or zip of folders named like the classes, a store)",
    )
    external: str = setting(
        "",
        "a store of other photographs with the same classes, such as the official ISIC 2018 test set: every "
        "classifier is tested on it, and nothing is ever trained, chosen or tuned on it; empty: none",
    )
    unverified: bool = setting(False, "allow images that do not say which fold their generator has seen")


def arms(a: AblateSettings, plan: ClassifierPlan) -> dict[str, Arm]:
    """The arms of one classifier by name, in the order given."""
    made = {name: named(name) for name in plan.arms}
    found = {name: arm if arm.balance != "equalise" else replace(arm, balance=a.balance)
             for name, arm in made.items()}  # fmt: skip
    added = replace(ARMS[BEST], balance=a.balance)
    for ratio in plan.ratios:
        found[f"{BEST}@{ratio:g}"] = replace(added, name=f"{BEST}@{ratio:g}", balance=ratio)
    for name in plan.filters:
        for filter_ in (name, RANDOM + name):
            found[f"{BEST}/{filter_}"] = replace(added, name=f"{BEST}/{filter_}", filter=filter_)
    return found


def named(name: str) -> Arm:
    """The arm of this name, or what all parts of a+b change together.

    A name that is no arm's is a source's, whose images are added.
    """
    return together([ARMS.get(part) or Arm(part, synthetic="add", source=part) for part in name.split("+")])


def check_ablate(a: AblateSettings, family: str) -> None:
    """Validate the ablation's settings. SkinGanError, with the valid choices, if they do not fit together."""
    own = [*ARMS, *a.sources]
    available = {BEST, family, *a.sources, *MADE}
    for name, plan in a.classifiers.items():
        if name not in CLASSIFIERS:
            raise SkinGanError(f"unknown classifier {name!r}: choose one of {', '.join(CLASSIFIERS)}")
        if plan.pretrained and (name in PUBLISHED or not CLASSIFIERS[name].network.startswith("resnet")):
            raise SkinGanError(f"ablate.classifiers.{name}.pretrained: weights are for resnet18 and resnet50")
        if plan.pretrained and not Path(plan.pretrained).exists():
            raise SkinGanError(
                f"ablate.classifiers.{name}.pretrained={plan.pretrained} does not exist: download the "
                f"file that torchvision.models.get_model_weights('{CLASSIFIERS[name].network}').DEFAULT.url "
                "names, or leave it out to train from scratch"
            )
        if unknown := [p for arm in plan.arms for p in arm.split("+") if p not in own]:
            raise SkinGanError(f"unknown arm {', '.join(unknown)}: choose of {', '.join(own)}")
        if PLAIN not in plan.arms:
            raise SkinGanError(
                f"ablate.classifiers.{name}.arms={plan.arms}: expected {PLAIN} among them, which all others "
                "are compared with"
            )
        if not (plan.by_lesion or plan.by_image):
            raise SkinGanError(
                f"ablate.classifiers.{name}: by_lesion and by_image are false: expected one of them, or "
                "leave the classifier out"
            )
        given = [arm.name for arm in arms(a, plan).values() if arm.synthetic != "none"]
        if name in PUBLISHED and given:
            raise SkinGanError(
                f"ablate.classifiers.{name}: {', '.join(given)} need generated images, and {name} has images "
                f"of {CLASSIFIERS[name].size} pixels, which no generator makes: leave these arms out"
            )
        missing = sorted({arm.source for arm in arms(a, plan).values()} - {""} - available)
        if missing:
            raise SkinGanError(
                f"the arm {missing[0]} needs generated images of {missing[0]}, and this sweep searches "
                f"{family}: leave the arm out, or name a sweep's folder with "
                f"ablate.sources.{missing[0]}=results/..."
            )
    if not isinstance(a.balance, dict):  # counts per class are checked once the data's classes are known
        images_to_add({"any": 1}, a.balance)


def check_arms(a: AblateSettings) -> None:
    """SkinGanError for an arm that is named twice, or whose settings do not fit together.

    Only launches check this: saved settings of an earlier version may break the rule.
    """
    if max(a.folds) >= N_FOLDS:
        raise SkinGanError(
            f"ablate.folds={a.folds}: expected different folds of 0 to {N_FOLDS - 1}; ablate.by_source=true "
            "holds out sources"
        )
    for name, plan in a.classifiers.items():
        for what, named in (("arms", plan.arms), ("ratios", plan.ratios), ("filters", plan.filters)):
            if len({*named}) < len(named):  # type: ignore[arg-type]
                raise SkinGanError(
                    f"ablate.classifiers.{name}.{what}={named}: expected each once, since the second would "
                    "be the same run"
                )
        for arm in arms(a, plan).values():
            check(replace(CLASSIFIERS[name], pretrained=plan.pretrained), arm)


def check_name(source: str, family: str) -> None:
    """SkinGanError for a source with an invalid name, or one that has another meaning."""
    reserved = {
        BEST: "is the best of all generators",
        **{name: "is an arm of its own" for name in (COMBINED, STRONGEST)},
        OUTSIDE: "is the set of ablate.external",
        family: "is what this sweep searches itself",
        **{name: "is a control" if name in CONTROLS else "is made by an arm" for name in MADE},
    }
    if source in ARMS and ARMS[source].source != source:
        reserved[source] = "is an arm of its own"
    if not re.fullmatch(r"\w[\w-]*", source):
        reserved[source] = "is not made of letters, digits, - and _ alone"
    if why := reserved.get(source):
        raise SkinGanError(f"ablate.sources.{source}: {source} {why}: choose another name, such as mine")


def check_balance(a: AblateSettings, classes: Sequence[str]) -> None:
    """SkinGanError for counts of unknown classes, or if no class has a count above 0."""
    if isinstance(a.balance, dict):
        counts = images_to_add(dict.fromkeys(classes, 1), a.balance)
        if not any(counts.values()):
            raise SkinGanError(
                f"ablate.balance={a.balance}: no image would be added: expected a count above 0 for one of "
                f"{', '.join(classes)}"
            )
