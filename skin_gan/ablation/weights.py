"""Weights of training images in the loss, and the classes' shares of it. Pure, numpy only.

Class weights and balanced sampling compensate for classes with few *photographs*. So every class gets the
same share of the loss, 1/K, whatever was added to it. Within a class of n photographs, its g generated images
together count as m = min(n, g) photographs:

    a photograph      1 / (K (n + m))
    a generated image 1 / (K (n + m)) * m / g

With g = 0 that is the usual inverse frequency of the photographs, 1 / (K n). With g <= n (a ratio up to 1)
a generated image counts as a photograph. With g > n photographs keep half the weight of their class. Two
simpler rules were rejected. Inverse frequency of all images is 1 for every image once classes are filled up,
which cancels the weights. Inverse frequency of photographs for all images counts a filled-up class twice: 57
photographs filled up to 3,400 images would have 60 times the share of a class of 3,400 photographs.

Logit adjustment compensates in another way: it adds the logarithm of each class's share of the loss to the
logits, and weighs no class. There, too, the generated images of a class count as m photographs together, so
that a class filled up has the share of twice its photographs at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from skin_gan.ablation.arm import Arm
from skin_gan.ablation.arms import own


def generated_share(photographs: int, generated: int, worth: float = 1.0) -> float:
    """The share of generated images in their class's weight, m / (n + m), 0..1/2; 1 without photographs.

    `worth`: the weight of a generated image, by which m is multiplied.
    """
    if not photographs:
        return 1.0
    m = min(photographs, generated) * worth
    return m / (photographs + m)


def even(photographs: Mapping[str, int], generated: Mapping[str, int]) -> bool:
    """Whether all images have equal weights for these counts by class, so that weights have no effect."""
    found = set()
    for label, n in photographs.items():
        g = generated[label]
        m = min(n, g) if n else g
        found |= {Fraction(1, n + m)} if n else set()
        found |= {Fraction(m, g * (n + m))} if g else set()
    return len(found) <= 1


def image_weights(
    labels: NDArray[np.integer],
    generated: NDArray[np.bool_],
    classes: int,
    worth: float = 1.0,
    drawn: float = 1.0,
) -> NDArray[np.float64]:
    """[N] weight of each image, N times the shares above. labels [N] in 0..classes-1.

    `worth`: `Arm.generated_weight`; `drawn`: how often a generated image is drawn for every draw of a
    photograph. Whatever they are, all classes have the same share of the loss of the images drawn.
    """
    weights = np.zeros(len(labels))
    for k in range(classes):
        for made in (False, True):
            rows = (labels == k) & (generated == made)
            if count := int(rows.sum()):
                share = generated_share(int(((labels == k) & ~generated).sum()),
                                        int(((labels == k) & generated).sum()), worth * drawn)  # fmt: skip
                weights[rows] = len(labels) * (share / drawn if made else 1 - share) / (classes * count)
    return weights


def loss_weights(
    arm: Arm,
    labels: NDArray[np.integer],
    generated: NDArray[np.bool_],
    classes: int,
    drawn: float = 1.0,
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """The weight of each image [N] in the arm's loss (None: all equal), and each class's share [K] of it.

    A class without images has the share of one image, so that its logarithm is finite. `drawn` as in
    `image_weights`. In balanced sampling `Arm.generated_weight` decides what is drawn instead.
    """
    weights = None
    if arm.class_weights and (weigh := own(arm, "weights")):
        weights = weigh(labels, generated, classes) * np.where(generated, arm.generated_weight, 1.0)
    elif arm.class_weights:
        weights = image_weights(labels, generated, classes, arm.generated_weight, drawn)
    elif (arm.adjust or arm.adjust_after) and generated.any():
        weights = np.ones(len(labels))
        for k in range(classes):
            photographs, made = (int(((labels == k) & (generated == kind)).sum()) for kind in (False, True))
            if made and photographs:
                weights[(labels == k) & generated] = min(photographs, made) / made
        weights[generated] *= arm.generated_weight
    elif arm.generated_weight != 1 and not arm.balanced_sampling:
        weights = np.where(generated, arm.generated_weight, 1.0)
    each = (1.0 if weights is None else weights) * np.where(generated, drawn, 1.0)
    shares = np.bincount(labels, each, classes) / each.sum()
    return weights, np.maximum(shares, 1 / len(labels))
