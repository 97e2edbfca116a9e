"""With a source, as in best+capped: photographs are most of every batch."""

from skin_gan.ablation.arm import Arm

TITLE = "at most 30% of a batch generated"
ARM = Arm(batch_share=0.3)
