"""With a source, as in best+real_last: the last quarter of the updates sees photographs alone."""

from skin_gan.ablation.arm import Arm

TITLE = "photographs alone at last"
ARM = Arm(real_last=0.25)
