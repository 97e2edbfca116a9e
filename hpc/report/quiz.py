"""report/quiz.html: which images are real? For practice, from validation photographs and generated images.

It holds photographs of the data set: it stays in the sweep's folder.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpc.report.page import render
from skin_gan.io import write_atomic

EACH = 10  # images of each kind and class at most


def write_quiz(
    path: Path,
    images: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    name: str,
    seed: int = 0,
    each: int = EACH,
) -> None:
    """`images`: real and generated ones of each class, uint8 [N,3,S,S]; as many of each kind are shown."""
    rng = np.random.default_rng(seed)
    cards: list[dict[str, Any]] = []
    for label, (real, generated) in images.items():
        n = min(each, len(real), len(generated))
        for kind, of_kind in (("real", real), ("generated", generated)):
            chosen = of_kind[rng.permutation(len(of_kind))[:n]]
            cards += [{"class": label, "real": kind == "real", "image": png(x)} for x in chosen]
    order = rng.permutation(len(cards))
    shuffled = [cards[i] for i in order]
    classes = [label for label in images if any(c["class"] == label for c in cards)]
    write_atomic(path, render("quiz.html.j2", {"cards": shuffled, "classes": classes, "name": name}))


def png(image: NDArray[np.uint8]) -> str:
    """uint8 [3,S,S] as the text of a PNG, without anything that tells where it came from."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
