"""The tags of TensorBoard. It sorts sections, the part before the slash, by name, so they are numbered."""

from __future__ import annotations

from skin_gan.metrics.scores import declared

KID, COVERAGE, SAMPLES = "1 KID x1000", "2 coverage", "3 samples"
SCORES, TRAINING, FURTHER, CLASSIFIER = "4 other scores", "5 training", "6 other images", "7 classifier"
# What is shown with its floor: what real images reach, which says how good a value is.
FIRST = {name: KID for name in ("kid", "kid_low", "kid_high", "kid_floor")}
FIRST |= {name: COVERAGE for name in ("coverage", "coverage_floor")}
WATCHED = ("d_train", "d_val", "overfit")  # of the discriminator


def tag_of(name: str) -> str:
    """The tag of a number of an evaluation, by its name in metrics.jsonl.

    "" for one that has no curve: constants, such as other floors and numbers of images, and what training
    records at every step.
    """
    if name in FIRST:
        return f"{FIRST[name]}/{name}"
    if name in WATCHED:
        return f"{TRAINING}/{name}"
    return f"{SCORES}/{name}" if name in declared() and declared()[name].better else ""


def tag_of_sheet(name: str) -> str:
    """The tag of a sheet of images."""
    return f"{SAMPLES if name == 'samples' else FURTHER}/{name}"
