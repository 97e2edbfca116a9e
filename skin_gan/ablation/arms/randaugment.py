"""RandAugment (Cubuk 2020, arXiv:1909.13719) without operations on hue (`skin_gan.ablation.augment`)."""

from skin_gan.ablation.arm import Arm

TITLE = "RandAugment without hue"
ARM = Arm(augment="randaugment")
