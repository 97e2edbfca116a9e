"""Training of one GAN: the session and its parts."""
