"""With a source, as in best+minority: only classes smaller than the median class get generated images."""

from skin_gan.ablation.arm import Arm

TITLE = "in small classes only"
ARM = Arm(minority=True)
