"""An arm of the ablation: its changes to the training set and the loss. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from skin_gan.errors import SkinGanError
from skin_gan.identity import differing
from skin_gan.ranges import setting

Mixing = Literal["none", "mixup", "cutmix"]


@dataclass
class Arm:
    """The changes to the training set and the loss. Fields can be combined."""

    name: str = "real"
    augment: Literal["none", "strong", "randaugment"] = setting(
        "none", "strong: turns, flips, crops, colour; randaugment: two random operations, none on hue"
    )
    # Every class has the same share of the loss, or is drawn equally often, by its number of *photographs*.
    # `skin_gan.ablation.weights` defines the weight of generated images.
    class_weights: bool = False
    balanced_sampling: bool = False
    focal: float = setting(0.0, "exponent gamma of the focal loss (Lin 2017); 0: cross entropy", least=0)
    adjust: float = setting(
        0.0, "tau of the logit-adjusted loss (Menon 2020, arXiv:2007.07314, eq. 10); 0: none", least=0
    )
    adjust_after: float = setting(
        0.0, "tau of logit adjustment after training (Menon 2020, eq. 9); 0: none", least=0
    )
    mix: Mixing = setting("none", "each image is mixed with a random one of its batch")
    duplicate: bool = False  # photographs are repeated by the plan `balance`
    synthetic: Literal["none", "add", "alone"] = setting("none", "what generated images are used for")
    source: str = ""  # source of generated images: a model family, best, noise, ...
    balance: Any = "equalise"  # for duplicate and synthetic; see `skin_gan.ablation.balance`
    filter: str = ""  # name of the filter that the samples have passed
    generated_weight: float = setting(
        1.0, "weight of a generated image in the loss, where a photograph of its class has 1", above=0, most=1
    )
    batch_share: float = setting(1.0, "largest share of generated images in a batch", above=0, most=1)
    minority: bool = False  # only to classes with fewer photographs than the median class
    own_norm: bool = False  # generated images have batch normalisation of their own
    generated_first: float = setting(
        0.0, "share of updates, at first, on generated images alone", least=0, most=1
    )
    real_last: float = setting(0.0, "share of updates, at last, on photographs alone", least=0, most=1)
    mix_generated: Mixing = setting("none", "each image is mixed with one of the other kind in its batch")
    method: str = ""  # file in skin_gan/ablation/arms whose `alter` or `weights` replaces the usual one


# The conventional part of an arm, which generated images can be put on top of.
TREATMENT = ("augment", "class_weights", "balanced_sampling", "focal", "adjust", "adjust_after", "mix",
             "method")  # fmt: skip


# The ways of using generated images, which need a source.
WAYS = ("generated_weight", "batch_share", "minority", "own_norm", "generated_first", "real_last",
        "mix_generated")  # fmt: skip


def ways(arm: Arm) -> list[str]:
    """The fields by which the arm uses generated images in another way than as photographs."""
    return [name for name in WAYS if name in differing(arm)]


def on_top(arm: Arm, strongest: Arm) -> Arm:
    """`arm` with the changes of the strongest conventional arm, to measure its gain on top of that."""
    if strongest.duplicate:
        raise SkinGanError("duplicate takes the place that generated images would: choose another arm")
    treatment = {name: getattr(strongest, name) for name in TREATMENT}
    if arm.mix_generated != "none":  # an image is mixed once
        treatment["mix"] = "none"
    return replace(arm, name=f"{arm.name}+{strongest.name}", **treatment)


def together(arms: Sequence[Arm]) -> Arm:
    """The arm that makes the changes of all `arms`. SkinGanError if two change the same thing differently."""
    found = replace(arms[0], name="+".join(arm.name for arm in arms))
    for arm in arms[1:]:
        changed = {name: value for name, value in differing(arm).items() if name != "name"}
        before = differing(found)
        if clash := [name for name, value in changed.items() if before.get(name, value) != value]:
            raise SkinGanError(
                f"arm {found.name}: its parts disagree on {', '.join(clash)}: expected parts that change "
                "different things"
            )
        found = replace(found, **changed)
    return found
