"""Contact sheets: many small images in one."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from skin_gan.io import write_atomic

Sheet = NDArray[np.uint8]  # [H,W,3]
GAP, TEXT = 2, 13  # pixels between images; the least height of the caption's letters
LEGIBLE = 24  # widths of a page per letter's height: TensorBoard shrinks pages to some 330 pixels
BACKGROUND, INK = (255, 255, 255), (40, 40, 40)


def sheet(images: ArrayLike, columns: int = 0, caption: str = "", shown: int = 64) -> Sheet:
    """Images uint8 [N,3,S,S] row by row on white, as [H,W,3].

    With `columns` 0 the sheet is about square. Images below `shown` pixels are enlarged by a whole factor
    without smoothing. `caption` is written above them.
    """
    x = np.asarray(images).transpose(0, 2, 3, 1)
    n, size = len(x), x.shape[1]
    columns = min(n, columns or math.ceil(math.sqrt(n)))
    factor = max(1, math.ceil(shown / size))
    cell = size * factor + GAP
    letters = max(TEXT, columns * cell // LEGIBLE)
    font, height = ImageFont.load_default(letters), letters + 4
    lines = _lines(caption, columns * cell, font)
    top = len(lines) * height
    page = Image.new("RGB", (columns * cell + GAP, top + math.ceil(n / columns) * cell + GAP), BACKGROUND)
    draw = ImageDraw.Draw(page)
    for row, line in enumerate(lines):
        draw.text((GAP, row * height), line, fill=INK, font=font)
    for i, pixels in enumerate(x):
        enlarged = Image.fromarray(pixels).resize((size * factor, size * factor), Image.Resampling.NEAREST)
        page.paste(enlarged, (GAP + i % columns * cell, top + GAP + i // columns * cell))
    return np.asarray(page)


def save(path: Path, page: Sheet) -> None:
    """Write a sheet as PNG, atomically."""
    png = io.BytesIO()
    Image.fromarray(page).save(png, "PNG")
    write_atomic(path, png.getvalue())


def thin(folder: Path, most: int) -> None:
    """Remove sheets, called KIMG-NAME.png, until those of `most` lengths of training are left, at least 2.

    The first and the last stay. Of the others the one between the nearest two goes first, so that what is
    left is spread evenly, however long the training becomes.
    """
    pages: dict[float, list[Path]] = {}
    for path in folder.glob("*.png"):
        pages.setdefault(float(path.name.partition("-")[0]), []).append(path)
    while len(pages) > most:
        at = sorted(pages)
        crowded = min(range(1, len(at) - 1), key=lambda i: at[i + 1] - at[i - 1])
        for path in pages.pop(at[crowded]):
            path.unlink()


def interpolate(a: torch.Tensor, b: torch.Tensor, steps: int) -> torch.Tensor:
    """Latents on the great circles from a to b, both [N,latent]: [N * steps, latent], one path after another.

    Straight lines between Gaussian latents pass through norms on which a generator was not trained (White
    2016, arXiv 1609.04468).
    """
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.acos()[:, None, None]
    t = torch.linspace(0, 1, steps, device=a.device)[None, :, None]
    path = (((1 - t) * angle).sin() * a[:, None] + (t * angle).sin() * b[:, None]) / angle.sin()
    return path.flatten(0, 1)


def _lines(caption: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """The caption broken at spaces into lines of at most `width` pixels."""
    lines: list[str] = []
    for word in caption.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
