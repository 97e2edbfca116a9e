"""Augmentations of images [N,3,H,W] in [-1,1], by file name: differentiable, random by an Rng alone."""
