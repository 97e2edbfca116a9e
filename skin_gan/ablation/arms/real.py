"""Photographs alone: the base of all comparisons."""

from skin_gan.ablation.arm import Arm

TITLE = "real images only"
ARM = Arm()
