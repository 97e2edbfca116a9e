"""Photographs of another store, on which classifiers are tested and never trained, chosen or tuned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skin_gan.ablation.parts import LabelledPart
from skin_gan.data.store import Store, open_store
from skin_gan.errors import SkinGanError

OUTSIDE = "outside"  # the part's name beside train, val and test


@dataclass(frozen=True)
class Outside:
    """The photographs of another store."""

    fingerprint: str  # the store's
    part: LabelledPart


def open_outside(path: Path | str, data: Store, size: int) -> Store:
    """The store at `path`. SkinGanError if its classes are not those of `data`, its size is another, or it
    holds a photograph of `data`, by its id or by the content of its file.

    Classes are compared without regard to case: the ISIC challenges write MEL where HAM10000 writes mel.
    """
    there = open_store(path)
    ours, theirs = ({c.casefold() for c in store.classes} for store in (data, there))
    if ours != theirs or len(theirs) < len(there.classes):
        raise SkinGanError(
            f"{there.path} has the classes {', '.join(there.classes)}: expected those of {data.name}, "
            f"{', '.join(data.classes)}; ingest it with --classes, or leave it out"
        )
    there.images(size)
    if data.path.exists():
        for name in ("image_id", "sha256"):
            if shared := sorted({*data.column(name)} & {*there.column(name)}):
                raise SkinGanError(
                    f"{there.path} shares {len(shared)} photographs with {data.name}, such as {name} "
                    f"{shared[0]}: expected photographs that nothing is trained on"
                )
    return there


def outside_part(there: Store, data: Store, size: int) -> LabelledPart:
    """All its images at `size` pixels, with the labels of `data`; `rows` are places in the other store."""
    places = {label.casefold(): k for k, label in enumerate(data.classes)}
    rows = np.arange(sum(there.counts.values()))
    labels = np.array([places[label.casefold()] for label in there.column("dx")], np.int64)
    return LabelledPart(
        there.pixels(size, rows), labels, there.column("group"), there.column("image_id"), rows
    )
