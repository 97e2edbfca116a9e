"""Penalties on a discriminator, by file name. The weight of each is the setting of that name.

NEEDS is "logits" where these suffice, "images" where it shows images to the discriminator again, and
"gradients" where it differentiates logits to images. `loss.lazy` makes the last two, which cost time, rarer.
"""
