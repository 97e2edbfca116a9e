"""The classifiers by which arms are compared, their settings, and published results. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from skin_gan.ranges import setting


@dataclass
class ClassifierSettings:
    """The classifier and its training, the same for all arms of a comparison."""

    network: Literal["cnn", "head", "resnet18", "resnet50"] = setting(
        "cnn", "head: linear, on frozen features"
    )
    size: int = setting(32, "height and width of an image", unit="pixels", least=8, most=512)
    steps: int = setting(1500, "optimiser updates: equal in every arm, however many images it has", least=1)
    batch: int = setting(64, "images per update", unit="images", least=2)
    lr: float = setting(1e-3, "learning rate at the beginning", above=0, below=1)
    schedule: Literal["cosine", "steps"] = setting(
        "cosine", "steps: a tenth after half and after 3/4 (DermaMNIST's)"
    )
    weight_decay: float = setting(
        1e-4, "decoupled (AdamW); of the head, whose optimiser is SGD, an L2 penalty", least=0, below=1
    )
    dropout: float = setting(0.2, 'before the last layer of "cnn"', least=0, below=1)
    pretrained: str = ""  # torchvision's networks: file of weights that you have; "" trains from scratch


CLASSIFIERS: dict[str, ClassifierSettings] = {
    "cnn": ClassifierSettings(),
    "head": ClassifierSettings(network="head", steps=1500, batch=128, weight_decay=1e-2),
    "resnet18": ClassifierSettings(network="resnet18"),
    "resnet50": ClassifierSettings(network="resnet50"),
    # MedMNIST's ResNet-18 at 28 pixels (Yang 2023, doi:10.1038/s41597-022-01721-8), 100 epochs of 7,007
    "dermamnist": ClassifierSettings(
        network="resnet18", size=28, steps=5500, batch=128, schedule="steps", weight_decay=0.0
    ),
}


@dataclass(frozen=True)
class Published:
    """Published results of a classifier, with its own image size and a split by image."""

    test: float  # share of the images, 0..1
    val: float
    train_images: int
    epochs: int
    results: Mapping[str, float]  # measure: share 0..1
    source: str


PUBLISHED: dict[str, Published] = {
    "dermamnist": Published(
        test=0.2, val=0.1, train_images=7007, epochs=100,
        results={"accuracy": 0.735, "macro_auc": 0.917},
        source="DermaMNIST, ResNet-18 at 28 pixels (Yang 2023, doi:10.1038/s41597-022-01721-8)",
    ),
}  # fmt: skip
