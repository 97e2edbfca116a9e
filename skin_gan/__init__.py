"""GANs for classes of few images: data, training, measures, and classifiers that use what they draw."""

__version__ = "0.1.0"
