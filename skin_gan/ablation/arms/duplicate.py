"""As many images as with generated ones, but repeated photographs."""

from skin_gan.ablation.arm import Arm

TITLE = "real images repeated"
ARM = Arm(duplicate=True)
