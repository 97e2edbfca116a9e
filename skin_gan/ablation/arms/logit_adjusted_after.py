"""Plain training; logits are adjusted afterwards (Menon 2020, arXiv:2007.07314, eq. 9)."""

from skin_gan.ablation.arm import Arm

TITLE = "logit adjustment after training"
ARM = Arm(adjust_after=1.0)
