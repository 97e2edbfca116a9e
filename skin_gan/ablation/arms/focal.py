"""The focal loss (Lin 2017, arXiv:1708.02002) with the gamma that its authors recommend."""

from skin_gan.ablation.arm import Arm

TITLE = "focal loss"
ARM = Arm(focal=2.0)
