"""MixUp (Zhang 2018, arXiv:1710.09412): images and labels are mixed in pairs."""

from skin_gan.ablation.arm import Arm

TITLE = "MixUp"
ARM = Arm(mix="mixup")
