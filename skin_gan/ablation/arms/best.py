"""The best generator of each class, of all sweeps that are sources."""

from skin_gan.ablation.arm import Arm

TITLE = "+ best generator"
ARM = Arm(synthetic="add", source="best")
