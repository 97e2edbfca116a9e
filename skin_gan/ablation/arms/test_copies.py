"""Test images rotated by quarter turns, in sets of the right fold: the leakage check must catch them."""

import numpy as np

from skin_gan.ablation.arm import Arm
from skin_gan.ablation.parts import labelled_part
from skin_gan.words import LEAKAGE

TITLE = "control: copies of test images"
ARM = Arm(synthetic="add", source="test_copies")
EXPECTED = (LEAKAGE,)
IMAGES = "copies of test images"


def make(store, split, size, n, label, rng):
    images = labelled_part(store, split, "test", size, label).images
    rows = np.resize(rng.permutation(len(images)), n)
    turns = rng.integers(4, size=n)
    return np.stack([np.rot90(images[row], turn, (1, 2)) for row, turn in zip(rows, turns, strict=True)])
