"""A classifier run: its identity, the hash of its content, and the validation of its settings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skin_gan.ablation.arm import Arm, ways
from skin_gan.ablation.arms import own
from skin_gan.ablation.classifiers import ClassifierSettings
from skin_gan.ablation.weights import even
from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash, differing, identity, whole
from skin_gan.ranges import out_of_range

# Part of every run's identity. Raise it when the same settings no longer give the same predictions, or when a
# default changes. Schema 2 hashed every field, including the path of pretrained weights.
SCHEMA, FORMER = 3, 2
FORMER_FIELDS = {
    "classifier": ("network", "size", "steps", "batch", "lr", "schedule", "weight_decay", "dropout",
                   "pretrained"),
    "arm": ("augment", "class_weights", "balanced_sampling", "focal", "duplicate", "synthetic", "source",
            "balance", "filter"),
}  # fmt: skip


@dataclass(frozen=True)
class ArmRun:
    """One training of one classifier in one arm: everything that determines its predictions."""

    classifier: ClassifierSettings
    arm: Arm
    seed: int
    split: str  # fingerprint of data and fold
    samples: Mapping[str, str] = field(default_factory=dict)  # fingerprint of the sample set of each class
    weights: str = ""  # fingerprint of the file of pretrained weights
    schema: int = SCHEMA  # of its identity: a run keeps the schema with which it was started

    @property
    def id(self) -> str:
        """Hash of the fields, without the arm's name and the path of the weights."""
        arm = replace(self.arm, name=Arm.name)
        if self.schema == SCHEMA:
            here = replace(self.classifier, pretrained=ClassifierSettings.pretrained)
            return identity(SCHEMA, replace(self, classifier=here, arm=arm))
        # Schema 1 weighted generated images differently; runs without such weights kept its number.
        weighed = arm.synthetic != "none" and (arm.class_weights or arm.balanced_sampling)
        own = {"seed": self.seed, "split": self.split, "samples": self.samples}
        groups = whole(replace(self, arm=arm), FORMER_FIELDS)
        return content_hash({"schema": FORMER if weighed else 1, **own, **groups})

    @property
    def before(self) -> ArmRun:
        """The same run with the identity of the former schema."""
        return replace(self, schema=FORMER)


def weights_of(pretrained: str) -> str:
    """Fingerprint of a file of pretrained weights; "" if there is none."""
    if not pretrained or not Path(pretrained).is_file():
        return ""
    with open(pretrained, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def run_of(record: Mapping[str, Any]) -> ArmRun:
    """The run in the record of a file of predictions. SkinGanError if another version made it."""
    try:
        own = {name: record[name] for name in ("seed", "split", "samples")}
        classifier, arm = ClassifierSettings(**record["classifier"]), Arm(**record["arm"])
        schema = record.get("schema", FORMER)
    except (KeyError, TypeError) as e:
        raise SkinGanError(f"the run was made by another version ({e}): launch again") from e
    if schema not in (FORMER, SCHEMA):
        raise SkinGanError(
            f"the run has schema {schema}, which this version does not know: expected {FORMER} or {SCHEMA}; "
            "use the version that made it, or launch again"
        )
    return ArmRun(classifier, arm, **own, weights=record.get("weights", ""), schema=schema)


def current(record: Mapping[str, Any]) -> bool:
    """Whether a record's id is the one that this version gives its run. SkinGanError as in `run_of`."""
    return bool(record["id"] == run_of(record).id)


def content(record: Mapping[str, Any]) -> str:
    """Hash of everything that determines a finished run's predictions: equal for arms that are one run.

    The arm's name, source, filter and balance are replaced by their result: the content of the training
    images, and the changes to them.
    """
    run = run_of(record)
    arm = replace(run.arm, **{k: getattr(Arm, k) for k in ("name", "source", "filter", "balance", "duplicate",
                                                           "synthetic", "minority")})  # fmt: skip
    if not arm.method and not ways(arm) and even(record["real"], record["synthetic"]):
        arm = replace(arm, class_weights=False)
    known = replace(run.classifier, pretrained=run.weights or run.classifier.pretrained)
    done = [differing(known), differing(arm), run.seed, run.split, run.samples]
    return content_hash([SCHEMA, *done, record["real"], record["synthetic"]], 16)


def check(c: ClassifierSettings, arm: Arm) -> None:
    """SkinGanError that names each value out of range and each invalid combination."""
    evened = [k for k in ("class_weights", "balanced_sampling", "adjust", "adjust_after") if getattr(arm, k)]
    expected = {
        f"pretrained={c.pretrained}": (not c.pretrained or c.network.startswith("resnet"), "a resnet for it"),
        f"duplicate={arm.duplicate}": (
            not (arm.duplicate and arm.synthetic != "none"),
            "no synthetic images, whose place repeated photographs take",
        ),
        " and ".join(evened): (len(evened) < 2, "one of them: each makes classes count equally by itself"),
        ", ".join(ways(arm)): (
            arm.synthetic == "add" or not ways(arm), f"a source of images to use so, as in best+{arm.name}",
        ),
        f"batch_share={arm.batch_share}": (
            arm.batch_share * c.batch >= 1, f"at least one image of a batch of {c.batch}",
        ),
        f"generated_first={arm.generated_first}, real_last={arm.real_last}": (
            arm.generated_first + arm.real_last <= 1, "at most 1 together",
        ),
        f"own_norm={arm.own_norm} with network=head": (
            not arm.own_norm or c.network != "head", "a network with batch normalisation",
        ),
        f"mix={arm.mix}, mix_generated={arm.mix_generated}": (
            "none" in (arm.mix, arm.mix_generated), "one of them: an image is mixed once",
        ),
        f"cutmix with network={c.network}": (
            "cutmix" not in (arm.mix, arm.mix_generated) or c.network != "head",
            "a classifier of images: features have no rectangles",
        ),
        f"duplicate={arm.duplicate} with {', '.join(evened)}": (
            not (arm.duplicate and evened), "one of them: repeats make classes count equally by themselves",
        ),
        f"synthetic=alone with {', '.join(evened)}": (
            not (arm.synthetic == "alone" and evened), "photographs, whose counts these go by",
        ),
        f"method={arm.method}": (
            (arm.duplicate or not own(arm, "alter")) and (arm.class_weights or not own(arm, "weights")),
            "duplicate=True for its alter(), class_weights=True for its weights()",
        ),
        f"source={arm.source}, filter={arm.filter}": (
            arm.synthetic != "none" or not (arm.source or arm.filter), "synthetic=add or alone to use them",
        ),
    }  # fmt: skip
    wrong = [f"{given}: expected {what}" for given, (ok, what) in expected.items() if not ok]
    if wrong := out_of_range(c) + out_of_range(arm) + wrong:
        raise SkinGanError(f"arm {arm.name}: " + "; ".join(wrong))
