"""Augmentations of images [N,3,H,W] in [-1,1], by file name: differentiable, random by an Rng alone.

Each has `of_real(images, rng, state)` for real images, `of_both(images, rng, state)` for real and generated
ones before the discriminator, and ADAPTIVE. Adaptive ones also have `adapt(logits, shown, state)`, which gets
the discriminator's logits [N] of real images of all processes after `shown` images. `state` belongs to the
augmentation and is saved in checkpoints.
"""
