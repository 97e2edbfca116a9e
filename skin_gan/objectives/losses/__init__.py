"""Losses of a GAN on logits, by the names of their files: float32 tensors in, a 0-d tensor out."""
