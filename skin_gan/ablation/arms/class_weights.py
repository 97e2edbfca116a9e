"""Every class has the same share of the loss: see `skin_gan.ablation.weights`."""

from skin_gan.ablation.arm import Arm

TITLE = "class weights"
ARM = Arm(class_weights=True)
