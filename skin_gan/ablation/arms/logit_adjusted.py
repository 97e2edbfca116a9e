"""The logit-adjusted loss (Menon 2020, arXiv:2007.07314, eq. 10) with its authors' tau."""

from skin_gan.ablation.arm import Arm

TITLE = "logit adjustment"
ARM = Arm(adjust=1.0)
