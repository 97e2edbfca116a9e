"""Photographs alone: what all other arms are compared with."""

from skin_gan.ablation.arm import Arm

TITLE = "real images only"
ARM = Arm()
