"""As many images as with generated ones, but photographs that are there already."""

from skin_gan.ablation.arm import Arm

TITLE = "real images repeated"
ARM = Arm(duplicate=True)
