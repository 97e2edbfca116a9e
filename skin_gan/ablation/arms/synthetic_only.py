"""As many generated images as there are photographs, and no photograph."""

from skin_gan.ablation.arm import Arm

TITLE = "generated only"
ARM = Arm(synthetic="alone", source="best", balance=1.0)
