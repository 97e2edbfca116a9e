"""The tags of TensorBoard. It sorts sections, the part before the slash, by name, so they are numbered."""

from __future__ import annotations

from skin_gan.metrics.scores import declared

# It opens the first two sections by itself.
QUALITY, SAMPLES, SCORES = "1 quality", "2 samples", "3 other scores"
TRAINING, FURTHER, CLASSIFIER = "4 training", "5 other images", "6 classifier"
# With what real images reach, which says how good a value is.
FIRST = {
    "kid": "KID x1000", "kid_floor": "KID x1000, floor", "coverage": "coverage",
    "coverage_floor": "coverage, floor",
}  # fmt: skip
WATCHED = ("d_train", "d_val", "overfit")  # of the discriminator


def tag_of(name: str) -> str:
    """The tag of a number of an evaluation, by its name in metrics.jsonl.

    "" for one that has no curve: constants, such as other floors and numbers of images, and what training
    records at every step.
    """
    if name in FIRST:
        return f"{QUALITY}/{FIRST[name]}"
    if name in WATCHED:
        return f"{TRAINING}/{name}"
    return f"{SCORES}/{name}" if name in declared() and declared()[name].better else ""


def tag_of_sheet(name: str) -> str:
    """The tag of a sheet of images."""
    return f"{SAMPLES if name == 'samples' else FURTHER}/{name}"
