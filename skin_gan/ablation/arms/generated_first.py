"""With a source, as in best+generated_first: pretraining on generated images, then photographs alone."""

from skin_gan.ablation.arm import Arm

TITLE = "generated images first"
ARM = Arm(balance=1.0, generated_first=0.5, real_last=0.5)
