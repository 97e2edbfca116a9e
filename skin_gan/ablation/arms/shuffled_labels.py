"""Training images with the label of another class: must be judged as harm.

Use about as many as there are real images: 150 per class did 9.5 points of harm [6.0, 13.0] on top of class
weights, but no visible harm with a plain head, which hardly predicts rare classes.
"""

import numpy as np

from skin_gan.ablation.arm import Arm
from skin_gan.ablation.parts import labelled_part
from skin_gan.words import HARMS

TITLE = "control: wrong labels"
ARM = Arm(synthetic="add", source="shuffled_labels")
EXPECTED = (HARMS,)
IMAGES = "training images of other classes"


def make(store, split, size, n, label, rng):
    part = labelled_part(store, split, "train", size)
    others = rng.permutation(np.flatnonzero(part.labels != store.classes.index(label)))
    return part.images[np.resize(others, n)]
