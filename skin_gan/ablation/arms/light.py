"""With a source, as in best+light: generated images count less than photographs."""

from skin_gan.ablation.arm import Arm

TITLE = "generated images weigh 0.3"
ARM = Arm(generated_weight=0.3)
