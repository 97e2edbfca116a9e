"""With a source, as in best+mixed_in: MixUp between photographs and generated images."""

from skin_gan.ablation.arm import Arm

TITLE = "MixUp with photographs"
ARM = Arm(mix_generated="mixup")
