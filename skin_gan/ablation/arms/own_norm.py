"""With a source, as in best+own_norm: own batch normalisation for generated images (arXiv:2312.02253)."""

from skin_gan.ablation.arm import Arm

TITLE = "own batch normalisation"
ARM = Arm(own_norm=True)
