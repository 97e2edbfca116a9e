"""What is compared: classifiers, the arms of the ablation, and the identity of one run. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from skin_gan.ablation.weights import even
from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash
from skin_gan.words import HARMS, LEAKAGE, RULED_OUT

# Raise it when equal settings would no longer give equal predictions; 2: see `ArmRun.schema`.
SCHEMA = 2
NETWORKS = ("cnn", "head", "resnet18", "resnet50")
SYNTHETIC_USE = ("none", "add", "alone")


@dataclass
class ClassifierSettings:
    """The classifier and its training: the same for every arm it is compared in."""

    network: Literal["cnn", "head", "resnet18", "resnet50"] = "cnn"  # head: linear, on frozen features
    size: int = 32  # pixels, height and width
    steps: int = 1500  # optimiser updates: equal in every arm, however many images it has
    batch: int = 64
    lr: float = 1e-3  # at the beginning
    schedule: Literal["cosine", "steps"] = "cosine"  # steps: a tenth after half and after 3/4 (DermaMNIST's)
    weight_decay: float = 1e-4  # decoupled (AdamW); of the head, whose optimiser is SGD, an L2 penalty
    dropout: float = 0.2  # before the last layer of "cnn"
    pretrained: str = ""  # torchvision's networks: file of weights that you have; "" trains from scratch


CLASSIFIERS: dict[str, ClassifierSettings] = {
    "cnn": ClassifierSettings(),
    "head": ClassifierSettings(network="head", steps=1500, batch=128, weight_decay=1e-2),
    "resnet18": ClassifierSettings(network="resnet18"),
    "resnet50": ClassifierSettings(network="resnet50"),
    # MedMNIST's ResNet-18 at 28 pixels (Yang 2023, doi:10.1038/s41597-022-01721-8), 100 epochs of 7,007
    "dermamnist": ClassifierSettings(
        network="resnet18", size=28, steps=5500, batch=128, schedule="steps", weight_decay=0.0
    ),
}


@dataclass(frozen=True)
class Published:
    """Results of a classifier above, on images of its own size and a split by image of its own shares."""

    test: float  # share of the images, 0..1
    val: float
    train_images: int
    epochs: int
    results: Mapping[str, float]  # measure: share 0..1
    source: str


PUBLISHED: dict[str, Published] = {
    "dermamnist": Published(
        test=0.2, val=0.1, train_images=7007, epochs=100,
        results={"accuracy": 0.735, "macro_auc": 0.917},
        source="DermaMNIST, ResNet-18 at 28 pixels (Yang 2023, doi:10.1038/s41597-022-01721-8)",
    ),
}  # fmt: skip


@dataclass
class Arm:
    """What is done to the training set and the loss. Fields combine."""

    name: str = "real"
    augment: Literal["none", "strong"] = "none"  # strong: turns, flips, crops, colour
    # Every class has the same share of the loss, or is drawn equally often, by its number of *photographs*:
    # see `skin_gan.ablation.weights`, also for what generated images then count.
    class_weights: bool = False
    balanced_sampling: bool = False
    focal: float = 0.0  # exponent gamma of the focal loss (Lin 2017); 0 is cross entropy
    duplicate: bool = False  # real images repeated by the plan `balance`: as many, but nothing new
    synthetic: Literal["none", "add", "alone"] = "none"
    source: str = ""  # which generator's samples: dcgan, aegan, best, ...
    balance: Any = "equalise"  # see `skin_gan.ablation.balance`; used by duplicate and synthetic
    filter: str = ""  # which filter the samples went through; a name, the samples arrive filtered


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("real"),
        Arm("strong", augment="strong"),
        Arm("class_weights", class_weights=True),
        Arm("balanced", balanced_sampling=True),
        Arm("focal", focal=2.0),
        Arm("duplicate", duplicate=True),
        Arm("synthetic_only", synthetic="alone", source="best", balance=1.0),
        Arm("dcgan", synthetic="add", source="dcgan"),
        Arm("aegan", synthetic="add", source="aegan"),
        Arm("best", synthetic="add", source="best"),
        Arm("test_copies", synthetic="add", source="test_copies"),
        Arm("shuffled_labels", synthetic="add", source="shuffled_labels"),
        Arm("noise", synthetic="add", source="noise"),
    )
}
# Arms and their sources whose verdict is known beforehand (`skin_gan.ablation.controls`): can the bench tell?
CONTROLS = {
    "test_copies": (LEAKAGE,), "shuffled_labels": (HARMS,), "noise": (HARMS, RULED_OUT),
}  # fmt: skip
CONVENTIONAL = ("strong", "class_weights", "balanced", "focal", "duplicate")  # nothing generated


def on_top(arm: Arm, strongest: Arm) -> Arm:
    """`arm` with the treatment of the strongest conventional arm: does it add anything to that?"""
    if strongest.duplicate:
        raise SkinGanError("duplicate takes the place that generated images would: choose another arm")
    treatment = {k: getattr(strongest, k) for k in ("augment", "class_weights", "balanced_sampling", "focal")}
    return replace(arm, name=f"{arm.name}+{strongest.name}", **treatment)


@dataclass(frozen=True)
class ArmRun:
    """One training of one classifier in one arm, by everything that decides its predictions."""

    classifier: ClassifierSettings
    arm: Arm
    seed: int
    split: str  # fingerprint of data and fold
    samples: Mapping[str, str] = field(default_factory=dict)  # fingerprint of the sample set of each class

    @property
    def id(self) -> str:
        """Hash of the above, the arm's name left out."""
        return identity(asdict(self))


def identity(record: Mapping[str, Any]) -> str:
    """The id that this version gives to a run with these fields of an `ArmRun`; others are passed over.

    The schema is that of the last version in which such a run changed. 2: generated images with class weights
    or balanced sampling, which were by the counts of photographs and generated images together before.
    """
    arm = {k: v for k, v in record["arm"].items() if k != "name"}
    evened = arm["class_weights"] or arm["balanced_sampling"]
    schema = SCHEMA if evened and arm["synthetic"] != "none" else 1
    return content_hash(
        {"schema": schema, "arm": arm, **{k: record[k] for k in ("classifier", "seed", "split", "samples")}}
    )


def current(record: Mapping[str, Any]) -> bool:
    """Whether this version would make the run of a record as it was made."""
    return bool(record["id"] == identity(record))


def content(record: Mapping[str, Any]) -> str:
    """Hash of what decides the predictions of a finished run: equal for two arms that are one run.

    Of the arm not its name, source, filter and balance, but what they have come to: the images that were
    trained on, by their content, and what was done to them.
    """
    arm = record["arm"]
    return content_hash(
        {
            "schema": SCHEMA,
            **{k: record[k] for k in ("classifier", "seed", "split", "samples", "real", "synthetic")},
            **{k: arm[k] for k in ("augment", "focal", "balanced_sampling")},
            "class_weights": arm["class_weights"] and not even(record["real"], record["synthetic"]),
        },
        16,
    )


def check(c: ClassifierSettings, arm: Arm) -> None:
    """SkinGanError that names each value out of range, and each combination that means nothing."""
    evened = [k for k in ("class_weights", "balanced_sampling") if getattr(arm, k)]
    expected = {
        f"network={c.network}": (c.network in NETWORKS, f"one of {', '.join(NETWORKS)}"),
        f"size={c.size}": (8 <= c.size <= 512, "8 to 512 pixels"),
        f"steps={c.steps}": (c.steps >= 1, "at least 1"),
        f"batch={c.batch}": (c.batch >= 2, "at least 2"),
        f"lr={c.lr}": (0 < c.lr < 1, "above 0, below 1"),
        f"schedule={c.schedule}": (c.schedule in ("cosine", "steps"), "cosine or steps"),
        f"weight_decay={c.weight_decay}": (0 <= c.weight_decay < 1, "at least 0, below 1"),
        f"dropout={c.dropout}": (0 <= c.dropout < 1, "at least 0, below 1"),
        f"pretrained={c.pretrained}": (not c.pretrained or c.network.startswith("resnet"), "a resnet for it"),
        f"augment={arm.augment}": (arm.augment in ("none", "strong"), "none or strong"),
        f"focal={arm.focal}": (arm.focal >= 0 and math.isfinite(arm.focal), "at least 0"),
        f"synthetic={arm.synthetic}": (arm.synthetic in SYNTHETIC_USE, f"one of {', '.join(SYNTHETIC_USE)}"),
        f"duplicate={arm.duplicate}": (
            not (arm.duplicate and arm.synthetic != "none"),
            "no synthetic images, whose place repeated photographs take",
        ),
        " and ".join(evened): (len(evened) < 2, "one of them: each makes classes count equally by itself"),
        f"duplicate={arm.duplicate} with {', '.join(evened)}": (
            not (arm.duplicate and evened), "one of them: repeats make classes count equally by themselves",
        ),
        f"synthetic=alone with {', '.join(evened)}": (
            not (arm.synthetic == "alone" and evened), "photographs, whose counts these go by",
        ),
        f"source={arm.source}, filter={arm.filter}": (
            arm.synthetic != "none" or not (arm.source or arm.filter), "synthetic=add or alone to use them",
        ),
    }  # fmt: skip
    bad = [f"{given}: expected {what}" for given, (ok, what) in expected.items() if not ok]
    if bad:
        raise SkinGanError(f"arm {arm.name}: " + "; ".join(bad))
