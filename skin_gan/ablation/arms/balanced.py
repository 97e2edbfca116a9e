"""Every class is drawn equally often."""

from skin_gan.ablation.arm import Arm

TITLE = "balanced sampling"
ARM = Arm(balanced_sampling=True)
