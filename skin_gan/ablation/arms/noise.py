"""Independent pixels: must be judged as harm, or its gain ruled out."""

import numpy as np

from skin_gan.ablation.arm import Arm
from skin_gan.words import HARMS, RULED_OUT

TITLE = "control: noise"
ARM = Arm(synthetic="add", source="noise")
EXPECTED = (HARMS, RULED_OUT)
IMAGES = "noise"


def make(store, split, size, n, label, rng):
    return rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8)
