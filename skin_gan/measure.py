"""Measures generators, or folders of images, against the real images that training held back.

    python -m skin_gan.measure results/published/NAME/best/* --data results/stores/ham10000
    python -m skin_gan.measure theirs/df --label df --size 64 --data results/stores/ham10000 --csv df.csv

A row for each: the scores of the evaluations while training, by both networks, with what real images reach
at equal n; KID is x1000. A generator is drawn from here; images of others, however they were made, are cut
and reduced as real ones are.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skin_gan.data.store import Store, fold_fingerprint, open_store
from skin_gan.errors import SkinGanError
from skin_gan.generator import CARD, files_of, load_generator, sample_images

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SHOWN = ("kid", "kid_floor", "kid2", "kid2_floor", "precision", "recall", "recall_floor", "coverage",
         "coverage_floor", "c2st", "copies", "checkerboard")  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What is measured: images of one class, uint8 [N,3,S,S], and whose they are."""

    source: Path
    label: str
    fold: int
    images: np.ndarray


def drawn(source: Path, store: Store, count: int, seed: int) -> Subject:
    """The first `count` images that `skin_gan.generate` writes for this seed.

    SkinGanError if the generator was not trained on this store's training part: what is held back here may
    be what it has seen.
    """
    net, card = load_generator(source)
    fold = int(card["fold"])
    if card["fold_fingerprint"] != fold_fingerprint(store, fold):
        raise SkinGanError(
            f"the generator in {source} was trained on other data than {store.path}: expected a store with "
            f"the fingerprint {card.get('data_fingerprint')}, got {store.fingerprint}; its training images "
            "may be among those that are held back here"
        )
    return Subject(source, card["label"], fold, sample_images(net, card, count, seed))


def read(source: Path, label: str, size: int, fold: int, count: int) -> Subject:
    """The first `count` images in a folder, by name. SkinGanError if there are fewer, or one is damaged."""
    import numpy as np

    from skin_gan.data.decode import Damage, decode

    files = sorted(p for p in source.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))[:count]
    if len(files) < count:
        raise SkinGanError(f"{source} holds {len(files)} PNG or JPEG images: expected --count {count}")
    pictures = [decode(p.read_bytes(), [size], (0, 0, 0)) for p in files]
    if damaged := [f"{p} ({d.why})" for p, d in zip(files, pictures, strict=True) if isinstance(d, Damage)]:
        raise SkinGanError(f"{len(damaged)} images cannot be read, such as {damaged[0]}")
    images = np.stack([d.images[size] for d in pictures if not isinstance(d, Damage)])
    return Subject(source, label, fold, images.transpose(0, 3, 1, 2))


def measure(subjects: list[Subject], store: Store, cache: Path, threads: int = 1) -> list[dict[str, Any]]:
    """A row of scores for each: see `skin_gan.metrics.evaluate`."""
    from skin_gan.metrics.evaluate import evaluate, reference
    from skin_gan.metrics.features import extractor, second_extractor

    networks = extractor(threads=threads), second_extractor(threads=threads)
    rows = []
    for s in subjects:
        real = reference(store, s.label, s.images.shape[-1], s.fold, cache, *networks)
        scores = evaluate(s.images, real, networks[0], second=networks[1])
        rows.append({"source": str(s.source), "label": s.label, "fold": s.fold, **scores})
    return rows


def measure_images(
    images: np.ndarray | Tensor | Path,
    store: Store,
    label: str,
    *,
    size: int = 0,
    fold: int = 0,
    count: int = 256,
    cache: Path | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Scores of images of class `label` against those that a fold's training holds back.

    `images`: uint8 [N,3,S,S] in 0..255, of any origin; or the path of a folder of PNG and JPEG files, of
    which the first `count` by name are cut and reduced to `size` pixels. `store` has real images of the same
    size. Features of real images are kept in `cache` (STORE/cache); `threads` are those of the CPU.

    The scores are those of `python -m skin_gan.measure`: `kid` (x1000) with `kid_low`, `kid_high` and
    `kid_floor`, which is what real images reach; `precision`, `recall`, `density`, `coverage`, `c2st` and
    `copies` in 0..1; names that end in 2 are by the second network; `note` says what this number of images
    cannot resolve. SkinGanError for an unknown or tiny class, another shape, or too few or damaged files.
    """
    from skin_gan.metrics.features import as_images

    if not isinstance(images, Path):
        subject = Subject(Path("array"), label, fold, as_images(images).numpy())
    elif images.is_dir() and size:
        subject = read(images, label, size, fold, count)
    else:
        raise SkinGanError(f"{images}, size={size}: expected a folder of images and a size in pixels")
    (row,) = measure([subject], store, cache or store.path / "cache", threads)
    return row


def main(words: list[str] | None = None) -> int:
    """The command line; returns its exit code."""
    o = arguments(words)
    try:
        rows = measure(subjects(o), open_store(o.data), o.cache or o.data / "cache", o.threads)
    except SkinGanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    import pandas as pd

    table = pd.DataFrame(rows)
    if o.csv:
        table.to_csv(o.csv, index=False)
    shown = [name for name in SHOWN if name in table]
    print(table[["label", *shown, "n_fake", "n_real"]].round(3).to_string(index=False, na_rep="-"))
    return 0


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m skin_gan.measure", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add(
        "what",
        type=Path,
        nargs="+",
        help="generators' folders, such as best/df, or folders of images",
    )
    add("--data", type=Path, required=True, help="an ingested store")
    add("--count", type=int, default=256, help="images of each that are measured (256)")
    add("--seed", type=int, default=0, help="of what a generator draws (0)")
    add("--label", help="of folders of images: their class")
    add("--size", type=int, help="of folders of images: the height and width at which to compare, in pixels")
    add("--fold", type=int, default=0, help="of folders of images: the fold held back from training (0)")
    add("--cache", type=Path, help="folder for features of real images (DATA/cache)")
    add("--csv", type=Path, help="write all scores there")
    add("--threads", type=int, default=1, help="CPU threads (1)")
    return parser.parse_args(words)


def subjects(o: argparse.Namespace) -> list[Subject]:
    """The generators and folders of the command line."""
    store, found = open_store(o.data), []
    if o.count < 2:
        raise SkinGanError(f"--count {o.count}: expected at least 2 images")
    for source in o.what:
        if files_of(source)[1].exists():
            found.append(drawn(source, store, o.count, o.seed))
        elif not source.is_dir():
            raise SkinGanError(f"there is no folder {source}: expected a generator's, or one of images")
        elif not o.label or not o.size:
            raise SkinGanError(f"{source} holds no {CARD}: for a folder of images give --label and --size")
        else:
            found.append(read(source, o.label, o.size, o.fold, o.count))
    return found


if __name__ == "__main__":
    sys.exit(main())
