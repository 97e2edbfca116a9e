"""Photographs turned, flipped, cropped and recoloured as they are drawn (`skin_gan.ablation.augment`)."""

from skin_gan.ablation.arm import Arm

TITLE = "strong augmentation"
ARM = Arm(augment="strong")
