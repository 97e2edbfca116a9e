"""GANs for skin lesion images, class by class: stores of images, training, generators, measures.

    import skin_gan

    store = skin_gan.resolve("demo", [32], Path("results"))       # the built-in drawn images
    trained = skin_gan.train(store, "df", skin_gan.preset("dcgan"), kimg=20, out=Path("results/one"))
    network, card = skin_gan.load_generator(trained.generator)
    images = skin_gan.sample_images(network, card, count=16, seed=0)   # uint8 [16,3,32,32]
    scores = skin_gan.measure_images(images, store, "df")

A name is imported on its first use, so that `import skin_gan` needs none of torch, numpy and pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skin_gan.data.resolve import resolve
    from skin_gan.data.store import class_split, open_store
    from skin_gan.errors import SkinGanError
    from skin_gan.generator import load_generator, sample_images
    from skin_gan.measure import measure_images
    from skin_gan.presets import preset
    from skin_gan.single import train
    from skin_gan.tables import read_table

# The one place of the version: hatchling reads it from here, and jobs' copies of a checkout have it too.
__version__ = "0.1.0"

__all__ = [
    "SkinGanError",
    "class_split",
    "load_generator",
    "measure_images",
    "open_store",
    "preset",
    "read_table",
    "resolve",
    "sample_images",
    "train",
]

_HOMES = {
    "SkinGanError": "errors",
    "class_split": "data.store",
    "load_generator": "generator",
    "measure_images": "measure",
    "open_store": "data.store",
    "preset": "presets",
    "read_table": "tables",
    "resolve": "data.resolve",
    "sample_images": "generator",
    "train": "single",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
