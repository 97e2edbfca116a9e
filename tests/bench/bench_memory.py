"""Peak memory of an evaluation and of equalised training sets: python tests/bench/bench_memory.py [--help]

On noise with the class counts of HAM10000. Each task runs in a process of its own, whose peak is printed
beside that of one that only imports what the tasks do. A mapped page of the store counts as memory here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from skin_gan.ablation.arm import Arm
from skin_gan.ablation.arms import make_samples
from skin_gan.ablation.batches import Batches
from skin_gan.ablation.fit import prepare
from skin_gan.ablation.frozen import Frozen
from skin_gan.ablation.leakage import Images, leakage
from skin_gan.ablation.parts import labelled_part, lesion_split
from skin_gan.ablation.trainingset import training_set
from skin_gan.data.store import COLUMNS, FORMAT, Store, describe_rows, open_store, store_json
from skin_gan.metrics.evaluate import evaluate
from skin_gan.metrics.reference import reference

COUNTS = {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}


class MeanColour:
    """Stands for the network of the metrics, whose memory is that of a batch: 48 colours of an image."""

    name, fd_name, weights_sha, dimensions = "mean-colour", "FD-mean-colour", "mean-colour", 48

    def __call__(self, images: np.ndarray | torch.Tensor, progress: object = None) -> np.ndarray:
        out = np.empty((len(images), self.dimensions), np.float32)  # not a list: its parts would pin batches
        for start in range(0, len(images), 4):
            x = torch.as_tensor(images[start : start + 4]).float()
            out[start : start + 4] = torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1) / 128 - 1
        return out


def make_store(path: Path, size: int, share: float) -> None:
    """Images of blurred noise, a lesion each, written in pieces."""
    path.mkdir(parents=True)
    names = [
        (f"{label}{i:05d}", label) for label, n in COUNTS.items() for i in range(max(20, int(n * share)))
    ]
    rows = [dict(zip(COLUMNS, (name, name, dx, name, name), strict=True)) for name, dx in names]
    lines = [",".join(COLUMNS), *(",".join(row.values()) for row in rows)]
    (path / "manifest.csv").write_text("\n".join(lines) + "\n")
    rng, shape = np.random.default_rng(0), (len(rows), size, size, 3)
    images = np.lib.format.open_memmap(path / f"images-{size}.npy", "w+", np.uint8, shape)
    for start in range(0, len(rows), 100):
        coarse = rng.integers(0, 200, (len(images[start : start + 100]), size // 8, size // 8, 3), np.uint8)
        images[start : start + 100] = coarse.repeat(8, 1).repeat(8, 2)
        images[start : start + 100] += rng.integers(0, 50, (size, size, 3), np.uint8)
    images.flush()
    store = Store(
        path, "bench", "bench", unit="lesion", partial=False, format=FORMAT, **describe_rows(rows, {})
    )
    (path / "store.json").write_text(store_json(store))


def nothing(store: Store, size: int, label: str) -> str:
    return "imports"


def evaluation(store: Store, size: int, label: str) -> str:
    """A reference made for the first time, and 2,000 generated images."""
    ref = reference(store, label, size, 0, store.path.parent / "cache", MeanColour())
    fake = np.random.default_rng(1).integers(0, 256, (2000, 3, size, size), np.uint8)
    row = evaluate(fake, ref, MeanColour())
    return (
        f"{len(ref.train.images)} training and {row['n_real']} validation images, {row['n_fake']} generated"
    )


def epoch(store: Store, size: int, label: str) -> str:
    """Every class filled up with repeats, and each image drawn once."""
    train = training_set(store, lesion_split(store, 0), size, Arm("duplicate", duplicate=True))
    made = np.zeros(len(train.labels), bool)
    draw, inputs = Batches(train.labels, made, 64, Arm(), 0), as_rows(train.images)
    total = sum(float(prepare(inputs[torch.from_numpy(draw(i))]).mean()) for i in range(len(made) // 64))
    most = np.bincount(train.labels).max()
    return f"{len(made)} images, {most} of each class, mean {total * 64 / len(made):.3f}"


def views(store: Store, size: int, label: str) -> str:
    """Strongly augmented views of the photographs of a class, for a frozen network."""
    images = labelled_part(store, lesion_split(store, 0), "train", size, label).images
    frozen = Frozen(store, size, store.path.parent / "views", MeanColour())
    return f"views {frozen.views(images).shape}"


def leak(store: Store, size: int, label: str) -> str:
    """500 generated images, a fifth of them test images, against the test images of their class."""
    split, e = lesion_split(store, 0), MeanColour()
    parts = [labelled_part(store, split, part, size, label) for part in ("test", "train")]
    held_out, train = (Images(p.images, e(p.images), p.lesions) for p in parts)
    made = [make_samples(source, store, split, size, n, 0, [label])[label].images
            for source, n in (("test_copies", 100), ("noise", 400))]  # fmt: skip
    images = np.concatenate(made)
    return f"{leakage(images, e(images), held_out, train, train).identical} identical images found"


def peak() -> float:
    """Most memory that this process has held, GB. (Not ru_maxrss, which counts that of its parent too.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def as_rows(images: object) -> object:
    """Earlier versions held an array."""
    return torch.from_numpy(images) if isinstance(images, np.ndarray) else images


TASKS: dict[str, Callable[[Store, int, str], str]] = {
    f.__name__: f for f in (nothing, evaluation, epoch, views, leak)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--share", type=float, default=1.0, help="of the 10,015 images")
    parser.add_argument("--label", default="nv", help="class to be evaluated")
    parser.add_argument("--folder", type=Path, help="keeps the store (2 GB) and the features")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--run", choices=TASKS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        torch.set_num_threads(1)
        said = TASKS[given.run](open_store(given.folder / "store"), given.size, given.label)
        print(json.dumps([peak(), said]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not (folder / "store").exists():
            make_store(folder / "store", given.size, given.share)
        for task in given.tasks:
            words = ["--run", task, "--folder", folder, "--size", given.size, "--label", given.label]
            command = [sys.executable, __file__, *map(str, words)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            most, said = json.loads(done.stdout)
            print(f"{task:10s} {most:5.2f} GB  {said}", flush=True)


if __name__ == "__main__":
    main()
