"""Augmentations of images [N,3,H,W] in [-1,1], by file name: differentiable, random by an Rng alone.

Each has `of_real(images, rng, state)`, for real images as they are drawn, `of_both(images, rng, state)`, for
what the discriminator is shown, and ADAPTIVE. Adaptive ones have `adapt(logits, shown, state)` too: it gets
the discriminator's logits [N] of the real images of all processes, after `shown` images in all. `state` is
the augmentation's own, and in the checkpoint.
"""
