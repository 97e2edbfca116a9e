"""torch's convolutions, made faster on CPUs."""
