"""Training one GAN: the session and what it is made of."""
