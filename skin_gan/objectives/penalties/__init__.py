"""Penalties on a discriminator, by file name. The weight of each is the setting of that name."""
