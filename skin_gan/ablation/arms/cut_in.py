"""With a source, as in best+cut_in: CutMix between photographs and generated images."""

from skin_gan.ablation.arm import Arm

TITLE = "CutMix with photographs"
ARM = Arm(mix_generated="cutmix")
