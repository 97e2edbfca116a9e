"""An arm of the ablation: its changes to the training set and the loss. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from skin_gan.errors import SkinGanError
from skin_gan.ranges import setting


@dataclass
class Arm:
    """The changes to the training set and the loss. Fields can be combined."""

    name: str = "real"
    augment: Literal["none", "strong"] = setting("none", "strong: turns, flips, crops, colour")
    # Every class has the same share of the loss, or is drawn equally often, by its number of *photographs*.
    # `skin_gan.ablation.weights` defines the weight of generated images.
    class_weights: bool = False
    balanced_sampling: bool = False
    focal: float = setting(0.0, "exponent gamma of the focal loss (Lin 2017); 0: cross entropy", least=0)
    duplicate: bool = False  # photographs are repeated by the plan `balance`
    synthetic: Literal["none", "add", "alone"] = setting("none", "what generated images are used for")
    source: str = ""  # source of generated images: a model family, best, noise, ...
    balance: Any = "equalise"  # for duplicate and synthetic; see `skin_gan.ablation.balance`
    filter: str = ""  # name of the filter that the samples have passed
    method: str = ""  # file in skin_gan/ablation/arms whose `alter` or `weights` replaces the usual one


def on_top(arm: Arm, strongest: Arm) -> Arm:
    """`arm` with the changes of the strongest conventional arm, to measure its gain on top of that."""
    if strongest.duplicate:
        raise SkinGanError("duplicate takes the place that generated images would: choose another arm")
    fields = ("augment", "class_weights", "balanced_sampling", "focal", "method")
    treatment = {name: getattr(strongest, name) for name in fields}
    return replace(arm, name=f"{arm.name}+{strongest.name}", **treatment)
