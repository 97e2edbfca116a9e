"""An arm of the ablation: what is done to the training set and the loss. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from skin_gan.errors import SkinGanError
from skin_gan.ranges import setting


@dataclass
class Arm:
    """What is done to the training set and the loss. Fields combine."""

    name: str = "real"
    augment: Literal["none", "strong"] = setting("none", "strong: turns, flips, crops, colour")
    # Every class has the same share of the loss, or is drawn equally often, by its number of *photographs*:
    # see `skin_gan.ablation.weights`, also for what generated images then count.
    class_weights: bool = False
    balanced_sampling: bool = False
    focal: float = setting(0.0, "exponent gamma of the focal loss (Lin 2017); 0: cross entropy", least=0)
    duplicate: bool = False  # photographs repeated by the plan `balance`: as many images, nothing new
    synthetic: Literal["none", "add", "alone"] = setting("none", "what generated images are used for")
    source: str = ""  # where generated images come from: a model family, best, noise, ...
    balance: Any = "equalise"  # see `skin_gan.ablation.balance`; used by duplicate and synthetic
    filter: str = ""  # which filter the samples went through; a name, the samples arrive filtered
    method: str = ""  # file in skin_gan/ablation/arms whose `alter` or `weights` takes the usual one's place


def on_top(arm: Arm, strongest: Arm) -> Arm:
    """`arm` with the treatment of the strongest conventional arm: does it add anything to that?"""
    if strongest.duplicate:
        raise SkinGanError("duplicate takes the place that generated images would: choose another arm")
    fields = ("augment", "class_weights", "balanced_sampling", "focal", "method")
    treatment = {name: getattr(strongest, name) for name in fields}
    return replace(arm, name=f"{arm.name}+{strongest.name}", **treatment)
