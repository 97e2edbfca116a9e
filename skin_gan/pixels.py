"""Splits sets of images into pieces, so that memory is bounded by a piece. NumPy only.

Whole sets are only ever held as uint8; computations with floating-point pixels take a piece at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

BYTES = 1 << 26  # 64 MiB of a piece as float32: 5,461 images of 32 pixels, or 85 of 256


def piece_size(shape: Sequence[int], times: int = 1) -> int:
    """The number of images of this shape that need at most `BYTES` as float32; at least 1.

    `times`: values that are held for each pixel, such as several views or a network's channels.
    """
    return max(1, BYTES // (4 * times * prod(shape)))


def pieces(images: NDArray[np.uint8], times: int = 1) -> Iterator[slice]:
    """Slices that cut images [N,...] into pieces of `piece_size`; [0:0] of no images."""
    step = piece_size(images.shape[1:], times)
    for start in range(0, max(1, len(images)), step):
        yield slice(start, min(start + step, len(images)))


def in_pieces(function: Callable[[NDArray[np.uint8]], NDArray], images: NDArray[np.uint8]) -> NDArray:
    """function(images), for a function that treats images [N,...] one by one and returns an array [N,...]."""
    return np.concatenate([function(images[piece]) for piece in pieces(images)])


def digest(head: str, images: NDArray[np.uint8]) -> str:
    """16 hexadecimal digits of a hash of the text `head` and of all pixels."""
    content = hashlib.sha256(head.encode())
    for piece in pieces(images):
        content.update(np.ascontiguousarray(images[piece]).data)
    return content.hexdigest()[:16]
