"""CutMix (Yun 2019, arXiv:1905.04899): a rectangle comes from another image, and so a share of the label."""

from skin_gan.ablation.arm import Arm

TITLE = "CutMix"
ARM = Arm(mix="cutmix")
