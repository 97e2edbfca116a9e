"""Writes generated images of one class to files: `python -m skin_gan.generate`.

    python -m skin_gan.generate RESULTS/best/df --count 1000 --seed 0 --out synthetic

writes synthetic/df/00000.png ..., manifest.csv (a hash per file) and manifest.yaml (their origin). In a sweep
one array images.npy takes the place of the PNG files, since shared disks bound the number of files.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from skin_gan.errors import SkinGanError
from skin_gan.folders import ARRAY
from skin_gan.generator import BATCH, NOTICE, batches, load_generator, read_yaml
from skin_gan.io import new_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


def generate(
    source: Path,
    out: Path,
    count: int,
    seed: int = 0,
    allow_rejected: bool = False,
    progress: bool = False,
    png: bool = True,
) -> Path:
    """Write `count` images of the generator in `source` to the folder `out`/LABEL, which is returned.

    Image i depends on generator, seed and i only, so a smaller set is the beginning of a larger one. The set
    appears whole or not at all; an existing equal set is left as it is. `png`: an image file each, in place
    of one array uint8 [N,3,S,S] in images.npy. Raises SkinGanError for a generator
    that was not accepted, unless `allow_rejected`, and if the folder holds anything else.
    """
    if count < 1 or seed < 0:
        raise SkinGanError(f"count={count}, seed={seed}: expected at least 1 image and a seed of at least 0")
    net, card = load_generator(source)
    if not card.get("accepted", False) and not allow_rejected:
        why = "; ".join(card.get("reasons", [])) or "nobody has judged it"
        raise SkinGanError(f"the generator in {source} was not accepted ({why}): see --allow-rejected")
    images = _images(net, card["model"], count, seed, progress)
    return write_set(out / card["label"], manifest(card, count, seed), images, png)


def write_set(
    target: Path, record: dict[str, Any], images: Iterable[NDArray[np.uint8]], png: bool = False
) -> Path:
    """Write images uint8 [H,W,3] and their manifest `record`, which has their count, to `target`.

    The set appears whole or not at all; an existing equal set is left as it is. SkinGanError if `target`
    holds anything else, or the set as an array where PNG files are asked for.
    """
    if _exists(target, record, png):
        return target
    with new_folder(target) as folder:
        written = (_write_files if png else _write_array)(folder, images, record["count"])
        rows = [[path.name, i, _sha256(path)] for i, path in enumerate(written)]
        with open(folder / "manifest.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([["file", "index", "sha256"], *rows])
        (folder / "manifest.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    return target


def manifest(card: dict[str, Any], count: int, seed: int) -> dict[str, Any]:
    """The origin of a set of images. Sets of different fold fingerprints must not be mixed."""
    keys = ("label", "fold", "fold_fingerprint", "data_fingerprint", "trial_id", "kimg", "accepted",
            "reasons")  # fmt: skip
    origin = {key: card[key] for key in keys if key in card}
    return {"notice": NOTICE, **origin, "generator_sha256": card["sha256"], "seed": seed, "count": count}


def _images(
    net: nn.Module, model: dict[str, Any], count: int, seed: int, progress: bool
) -> Iterator[NDArray[np.uint8]]:
    """`count` images uint8 [H,W,3]."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True, quiet=not progress)
    found = batches(net, model, count, seed)
    for images in track(found, "generating", total=-(-count // BATCH), console=console):
        yield from images.transpose(0, 2, 3, 1)


def _write_files(folder: Path, images: Iterable[NDArray[np.uint8]], count: int) -> list[Path]:
    """Write a PNG file of each image uint8 [H,W,3]; returns their paths."""
    from PIL import Image

    paths = [folder / f"{i:05d}.png" for i in range(count)]
    for path, image in zip(paths, images, strict=True):
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        path.write_bytes(png.getvalue())
    return paths


def _write_array(folder: Path, images: Iterable[NDArray[np.uint8]], count: int) -> list[Path]:
    """Write the images uint8 [H,W,3] as one array [N,3,H,W], holding one at a time; returns its path."""
    from numpy.lib import format as npy

    path = folder / ARRAY
    with open(path, "wb") as file:
        for i, image in enumerate(images):
            chw = image.transpose(2, 0, 1)
            if i == 0:
                shape = (count, *chw.shape)
                npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            file.write(chw.tobytes())
    return [path]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _exists(target: Path, record: dict[str, Any], png: bool) -> bool:
    """Whether the set exists already; SkinGanError if `target` holds another set or anything else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    remedy = "choose another --out, or remove that folder"
    if not (target / "manifest.yaml").is_file():
        raise SkinGanError(f"{target} is in the way and is no set of generated images: {remedy}")
    there = read_yaml(target / "manifest.yaml")
    other = [f"{k} {there.get(k)} and not {v}" for k, v in record.items() if there.get(k) != v]
    if other:
        raise SkinGanError(f"{target} holds another set of images ({'; '.join(other)}): {remedy}")
    if (target / ARRAY).is_file():
        if png:
            raise SkinGanError(f"{target} holds these images in {ARRAY}, not as PNG files: {remedy}")
        return True
    missing = [n for n in (f"{i:05d}.png" for i in range(record["count"])) if not (target / n).is_file()]
    if missing:
        raise SkinGanError(f"{target} lacks {len(missing)} of its images, such as {missing[0]}: {remedy}")
    return True


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m skin_gan.generate", description="Generate images.")
    parser.add_argument("generator", type=Path, help="a generator's folder, such as RESULTS/best/df")
    parser.add_argument("--count", type=int, required=True, help="how many images")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other images (default 0)")
    parser.add_argument("--out", type=Path, required=True, help="images go to OUT/CLASS")
    parser.add_argument("--allow-rejected", action="store_true", help="use a generator that was not accepted")
    o = parser.parse_args(arguments)
    try:
        print(generate(o.generator, o.out, o.count, o.seed, o.allow_rejected, progress=True))
    except SkinGanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
