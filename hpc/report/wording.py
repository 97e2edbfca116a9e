"""The report's names of arms and measures, and its number formats."""

from __future__ import annotations

import math

from hpc.settings.ablation import COMBINED, STRONGEST
from skin_gan.ablation.arms import TITLES
from skin_gan.ablation.measures import REALISED, SENSITIVITY, SPECIFICITY
from skin_gan.ablation.stats import FEWEST
from skin_gan.ablation.verdict import ABOVE_CHANCE, FALL

ARMS = {
    **TITLES,
    COMBINED: "+ best generator on top, as each fold chose",
    STRONGEST: "strongest without generated images, as each fold chose",
}
MEASURES = {
    "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "macro_auc": "macro AUC",
    "ece": "calibration error", "balanced_log_loss": "balanced log loss",
    SENSITIVITY: "melanoma sensitivity", REALISED: "melanoma specificity",
}  # fmt: skip
# Classes of HAM10000 and the ISIC challenges (Tschandl 2018, doi:10.1038/sdata.2018.161)
CLASSES = {
    "akiec": "actinic keratosis, Bowen's disease", "ak": "actinic keratosis", "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis-like lesion", "df": "dermatofibroma", "mel": "melanoma",
    "nv": "melanocytic nevus", "scc": "squamous cell carcinoma", "vasc": "vascular lesion",
}  # fmt: skip
CLASSIFIERS = {
    "cnn": "a small network trained from scratch", "head": "a linear classifier on ImageNet features",
    "resnet18": "a ResNet-18", "resnet50": "a ResNet-50", "dermamnist": "DermaMNIST's ResNet-18",
}  # fmt: skip
# By kind of data: the licence of images and tables made from it
SOURCES = {"ham10000": "Made from HAM10000 (CC BY-NC 4.0), so for non-commercial research only."}
MINIMUM = (
    "A trial's KID is the lowest of its evaluations, and a chosen generator's the lowest of all trials. Such "
    "a minimum is lower than a new measurement would be, and its interval ignores the selection."
)
OF_TRIALS = (
    "A trial's KID is the lowest of its evaluations, on the half of the validation lesions that was searched "
    "on. Such a minimum is lower than a new measurement would be, and its interval ignores the selection."
)
THRESHOLD = (
    f"Each run's melanoma threshold has a specificity of {SPECIFICITY:g} on validation images; sensitivity "
    "and specificity are what this threshold reaches on test images."
)
# Printed beside every table of verdicts
ADJUSTED = (
    "The headline's comparison, on balanced accuracy, was fixed beforehand and is not adjusted. The "
    "other arms are explored: their p values are Holm-adjusted for each base and measure, over as many "
    "comparisons as gains.csv says; each run counts once, whatever its names. Real images only are shown "
    "unadjusted, and random choices beside filters are controls without a verdict. The detectable gain is "
    "given at the verdict's level: 5%, or 5% over the number of comparisons. "
    f"A class of fewer than {FEWEST} test lesions allows no verdict, nor does a classifier "
    f"whose balanced accuracy on real images only is not {100 * ABOVE_CHANCE:g} points above chance with its "
    f"whole interval, or whose training loss has fallen by less than {100 * FALL:g}% of log K."
)


def arm_title(arm: str) -> str:
    """`best@2+class_weights` as "+ best generator ×2, class weights"."""
    first, *treatment = arm.split("+")
    name, _, ratio = first.partition("@")
    name, _, filtered = name.partition("/")
    title = ARMS.get(name, f"+ {name}")
    title += f" ×{ratio}" if ratio else ""
    title += f" ({filtered})" if filtered else ""
    return ", ".join([title, *(ARMS.get(part, part) for part in treatment)])


def classifier_title(name: str) -> str:
    """`head` as "head, a linear classifier on ImageNet features"."""
    return f"{name}, {CLASSIFIERS[name]}" if name in CLASSIFIERS else name


def class_title(label: str) -> str:
    """`df` as "df: dermatofibroma"."""
    return f"{label}: {CLASSES[label]}" if label in CLASSES else label


def measure_title(measure: str) -> str:
    """`recall_df` as "recall of df"."""
    return MEASURES.get(measure) or measure.replace("recall_", "recall of ")


def unit(measure: str) -> tuple[float, int, str]:
    """The factor from 0..1 to the displayed number, its digits, and the unit of differences."""
    plain = {"macro_auc": "AUC", "balanced_log_loss": "nats"}
    return (1.0, 3, plain[measure]) if measure in plain else (100.0, 1, "points")


def number(x: float, digits: int) -> str:
    """The number with a typographic minus sign; zero has no sign."""
    shown = f"{x:.{digits}f}"
    return shown.replace("-", "−") if float(shown) else shown.removeprefix("-")


def value(share: float, measure: str = "accuracy") -> str:
    """A value 0..1 as displayed."""
    factor, digits, _ = unit(measure)
    return number(factor * share, digits)


def gain(share: float, measure: str = "accuracy") -> str:
    """A difference of values 0..1 as displayed, with its sign."""
    factor, digits, _ = unit(measure)
    shown = f"{factor * share:+.{digits}f}"
    return shown.replace("-", "−") if float(shown) else shown[1:]


def span(low: float, high: float, measure: str = "accuracy", signed: bool = True) -> str:
    """An interval of differences, or (`signed` false) of values, as displayed; NaN: not known."""
    if math.isnan(low):
        return "[not known]"
    show = gain if signed else value
    return f"[{show(low, measure)}, {show(high, measure)}]"
