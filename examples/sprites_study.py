"""Why do generated sprites look better than generated lesions? The images to compare, and a measure by band.

    python examples/sprites_study.py make results/stores/sprites results/stores/ham10000 --out results/study
    python -m skin_gan.data ingest results/study --size 32 --out results/stores/study
    python hpc/launch.py sweep=sprites data=results/stores/study budget=compare
    python examples/sprites_study.py bands results/sprites/study-... --data results/stores/study

`make` writes a folder per kind of image, with as many images in each: sprites and lesions as they are;
sprites blurred until their fine detail has a lesion's share of the power; lesions of 32 colours; lesions
sharpened until theirs has a sprite's share. `bands` says how well generated images are told from held-out
ones (AUC of a linear classifier on frozen features, 0.5: not at all) if both lose what is finer than a few
cycles per image.
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from skin_gan.data.store import class_split, open_store
from skin_gan.errors import SkinGanError
from skin_gan.generator import latents, load_generator
from skin_gan.metrics.features import extractor
from skin_gan.metrics.scores.c2st import c2st
from skin_gan.training.showcase import draw

SIZE, FINE = 32, 8  # pixels; cycles per image above which detail is called fine
KINDS = {"sprites": ("monster", "item"), "lesions": ("df", "mel")}


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write a folder per kind of image")
    make.add_argument("sprites", type=Path, help="store of the sprites, at 32 pixels")
    make.add_argument("lesions", type=Path, help="store of the lesions, at 32 pixels")
    make.add_argument("--out", type=Path, required=True)
    bands = commands.add_parser("bands", help="tell generated from held-out images, by band")
    bands.add_argument("run", type=Path, help="the sweep's folder")
    bands.add_argument("--data", type=Path, required=True, help="the store it ran on")
    return parser.parse_args()


def radius(size: int) -> np.ndarray:
    """[size,size]: the frequency of each coefficient of a 2-D Fourier transform, in cycles per image."""
    f = np.fft.fftfreq(size) * size
    return np.hypot(f[:, None], f[None])


def fine_share(x: np.ndarray) -> float:
    """The share of the power of grey images [N,S,S,3], without their means, that lies above FINE cycles."""
    power = np.abs(np.fft.fft2(x.mean(-1))) ** 2
    fine, mean = radius(x.shape[1]) > FINE, radius(x.shape[1]) == 0
    return float(power[:, fine].sum() / power[:, ~mean].sum())


def until(change: Callable[[float], np.ndarray], share: float, high: float) -> np.ndarray:
    """The images of the strength in 0..high whose fine share is `share`, by bisection."""
    low, rising = 0.0, fine_share(change(high)) > fine_share(change(0.0))
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if (fine_share(change(middle)) < share) == rising else (low, middle)
    return change(low)


def blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(x, (0, sigma, sigma, 0))


def sharpened(x: np.ndarray, amount: float) -> np.ndarray:
    """High boost, within 0..255."""
    return (x + amount * (x - blurred(x, 1.0))).clip(0, 255)


def posterised(x: np.ndarray) -> np.ndarray:
    pages = [Image.fromarray(image.astype(np.uint8)).quantize(32).convert("RGB") for image in x]
    return np.stack([np.asarray(page, np.float64) for page in pages])


def make(o: Namespace) -> None:
    stores = {"sprites": open_store(o.sprites), "lesions": open_store(o.lesions)}
    found = {label: one_per_group(stores[kind], label) for kind, labels in KINDS.items() for label in labels}
    n = min(map(len, found.values()))
    images = {label: x[:n] for label, x in found.items()}
    images["monster_many"], images["mel_many"] = (found[label][: 5 * n] for label in ("monster", "mel"))
    monster, mel = images["monster"], images["mel"]
    images["monster_blurred"] = until(lambda s: blurred(monster, s), fine_share(mel), 4.0)
    images["mel_sharpened"] = until(lambda s: sharpened(mel, s), fine_share(monster), 200.0)
    images["mel_posterised"] = posterised(mel)
    for label, x in images.items():
        folder = o.out / label
        folder.mkdir(parents=True)
        for i, image in enumerate(x):
            Image.fromarray(image.round().astype(np.uint8)).save(folder / f"{label}-{i:04d}.png")
        print(f"{label:16} {len(x):5} images, {100 * fine_share(x):5.1f}% of the power above {FINE} cycles")


def one_per_group(store, label: str) -> np.ndarray:
    """float64 [N,32,32,3] in 0..255: the first image of each lesion of a class, in random order."""
    rows = np.flatnonzero(store.column("dx") == label)
    _, first = np.unique(store.column("group")[rows], return_index=True)
    chosen = np.random.default_rng(0).permutation(rows[first])
    return store.images(SIZE)[chosen].astype(np.float64)


def low_passed(x: np.ndarray, cycles: float) -> np.ndarray:
    """uint8 images [N,3,S,S] without what is finer than `cycles` per image."""
    kept = np.fft.fft2(x.astype(np.float64)) * (radius(x.shape[-1]) <= cycles)
    return np.fft.ifft2(kept).real.round().clip(0, 255).astype(np.uint8)


def bands(o: Namespace) -> None:
    store, network = open_store(o.data), extractor()
    rows = []
    for folder in sorted((o.run / "best").iterdir()):
        net, card = load_generator(folder)
        split = class_split(store, card["label"], SIZE, card["fold"])
        z = torch.cat([latents(card["model"], 1, batch) for batch in range(4)])
        generated = draw(net, z).numpy()[: max(64, len(split.val.images))]
        row = {"class": card["label"], "held_out": len(split.val.images)}
        for cycles in (2, 4, 8, SIZE):
            fake, real = (network(low_passed(x, cycles)) for x in (generated, split.val.images))
            row[f"up to {cycles} cycles" if cycles < SIZE else "all"] = c2st(fake, real, split.val.lesions)
        rows.append(row)
    pd.DataFrame(rows).round(3).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    try:
        given = arguments()
        {"make": make, "bands": bands}[given.command](given)
    except (SkinGanError, FileExistsError) as e:
        sys.exit(f"error: {e}")
