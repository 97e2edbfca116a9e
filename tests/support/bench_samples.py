"""A small store whose classes can be told apart, and sample sets as files: for the tests of the bench."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from data_samples import encode
from PIL import Image

from skin_gan.ablation.runs import FORMER_FIELDS
from skin_gan.data.store import COLUMNS, Store, describe_rows, image_file, open_store, store_json

SIZE = 32
COLOURS = {"bcc": (200, 120, 120), "mel": (90, 60, 50), "nv": (150, 100, 70)}
LESIONS = {"bcc": 15, "mel": 20, "nv": 40}  # the first half of each has two photographs


def picture(label: str, lesion: int, photo: int, size: int = SIZE) -> np.ndarray:
    """uint8 [size,size,3]: the class's colour, the lesion's own pattern, a little noise of the photograph."""
    own = np.random.default_rng([list(COLOURS).index(label), lesion])
    coarse = Image.fromarray(own.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    pattern = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), float) - 128
    noise = np.random.default_rng([lesion, photo, 7]).normal(0, 6, (size, size, 3))
    return np.clip(np.array(COLOURS[label]) + 0.5 * pattern + noise, 0, 255).astype(np.uint8)


def make_store(
    folder: Path, size: int = SIZE, first: int = 0, upper: bool = False, sources: tuple[str, ...] = ()
) -> Store:
    """`first`: the number of the first lesion; `upper`: classes in capitals; `sources`: dealt in turn."""
    rows, images = [], []
    for label, lesions in LESIONS.items():
        for lesion in range(first, first + lesions):
            for photo in range(2 if lesion < first + lesions // 2 else 1):
                name = f"{label}-{lesion:02d}"
                images.append(picture(label, lesion, photo, size))
                digest = hashlib.sha256(images[-1].tobytes()).hexdigest()
                dx = label.upper() if upper else label
                rows.append(dict(zip(COLUMNS, (f"{name}-{photo}", name, dx, name, digest), strict=True)))
                if sources:
                    rows[-1]["dataset"] = sources[lesion % len(sources)]
    folder.mkdir(parents=True)
    np.save(image_file(folder, size), np.stack(images))
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    store = Store(
        path=folder, name="small", kind="folder", unit="lesion", partial=False, **describe_rows(rows, {})
    )
    (folder / "store.json").write_text(store_json(store))
    return open_store(folder)


def new_images(label: str, count: int, size: int = SIZE) -> np.ndarray:
    """uint8 [N,3,size,size] of lesions that are not in the store: an ideal generator's."""
    found = [picture(label, 1000 + i, 0, size) for i in range(count)]
    return np.stack(found).transpose(0, 3, 1, 2)


class MeanColour:
    """Stands for the extractor: 48 features, the colours of a 4x4 image."""

    weights_sha, dimensions = "mean-colour", 48

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.seen += len(images)
        small = torch.nn.functional.adaptive_avg_pool2d(torch.as_tensor(images).float(), 4)
        return (small.flatten(1) / 128 - 1).numpy()


def write_set(folder: Path, label: str, images: np.ndarray, fold_fingerprint: str | None) -> Path:
    """As `python -m skin_gan.generate` writes it; without a fold's fingerprint as anybody else would."""
    place = folder / label
    place.mkdir(parents=True)
    rows = []
    for i, image in enumerate(images):
        png = encode(Image.fromarray(image.transpose(1, 2, 0)), "PNG")
        (place / f"{i:05d}.png").write_bytes(png)
        rows.append([f"{i:05d}.png", i, hashlib.sha256(png).hexdigest()])
    if fold_fingerprint is not None:
        with open(place / "manifest.csv", "w", newline="") as file:
            csv.writer(file).writerows([["file", "index", "sha256"], *rows])
        record = {"label": label, "fold_fingerprint": fold_fingerprint, "seed": 0, "count": len(images)}
        (place / "manifest.yaml").write_text(yaml.safe_dump(record))
    return place


def with_a_new_field(kind):
    """`kind` with a field more, at its beginning, and the others in reverse order, with their defaults."""
    old = [
        (f.name, Any, dataclasses.field(default=f.default, default_factory=f.default_factory))
        for f in reversed(dataclasses.fields(kind))
    ]
    properties = {name: value for name, value in vars(kind).items() if isinstance(value, property)}
    return dataclasses.make_dataclass(
        kind.__name__, [("new", float, 0.25), *old], namespace=properties, kw_only=True
    )


def rebuilt(value, classes):
    """The same values, in other classes where `classes` maps theirs to others."""
    if isinstance(value, dict):
        return {key: rebuilt(item, classes) for key, item in value.items()}
    if not dataclasses.is_dataclass(value):
        return value
    kept = {f.name: rebuilt(getattr(value, f.name), classes) for f in dataclasses.fields(value)}
    return classes.get(type(value), type(value))(**kept)


def former_record(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a run as the version before wrote it, which had fewer fields."""
    arm = {name: record["arm"][name] for name in ("name", *FORMER_FIELDS["arm"])}
    return {name: value for name, value in record.items() if name not in ("weights", "schema")} | {"arm": arm}
