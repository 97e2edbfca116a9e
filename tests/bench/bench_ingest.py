"""Ingest against a plain single-threaded Pillow loop on 600x450 JPEGs, in one run; and its peak memory.

    python tests/bench/bench_ingest.py [--images 2000] [--size 32]

Both read the same zips in the official layout and leave an array on disk; the ingest also hashes, looks for
duplicates, checks the metadata and writes its report. Rounds alternate, and the best of each counts, since
other work on the machine only ever makes a round slower. The memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from skin_gan.cores import cores

DISTINCT = 50  # pictures; the files differ by a comment, as decoding takes no notice of repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = make_source(Path(folder) / "source", options.images)
        plain, ours, memory = [], [], []
        for number in range(options.rounds):
            start = time.perf_counter()
            plain_loop(source, Path(folder) / "plain.npy", options.size)
            plain.append(time.perf_counter() - start)
            seconds, peak = ingest(source, Path(folder) / f"store{number}", options.size)
            ours.append(seconds)
            memory.append(peak)
    n = options.images
    print(f"{n} JPEGs of 600x450 to {options.size}x{options.size}, {cores()} cores")
    print(f"plain Pillow loop  {n / min(plain):6.0f} images/s")
    print(f"ingest             {n / min(ours):6.0f} images/s   {min(plain) / min(ours):.2f}x (with start-up)")
    print(f"peak memory        {max(memory):6.0f} MB")


def make_source(folder: Path, n: int) -> Path:
    """n dermatoscope-like JPEGs in two zips, with metadata."""
    folder.mkdir()
    pictures = [_jpeg(seed) for seed in range(min(n, DISTINCT))]
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization,dataset"]
    lines += [f"HAM_{i},ISIC_{i:07d},nv,,,,," for i in range(n)]
    (folder / "HAM10000_metadata.csv").write_text("\n".join(lines))
    for part, numbers in (("1", range(n // 2)), ("2", range(n // 2, n))):
        with zipfile.ZipFile(
            folder / f"HAM10000_images_part_{part}.zip", "w", zipfile.ZIP_DEFLATED
        ) as archive:
            for i in numbers:
                comment = b"\xff\xfe\x00\x09" + f"{i:07d}".encode()
                data = pictures[i % len(pictures)]
                archive.writestr(f"ISIC_{i:07d}.jpg", data[:2] + comment + data[2:])
    return folder


def _jpeg(seed: int) -> bytes:
    """Smooth colours with fine grain; about 150 kB, the weight of the release's files."""
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(90, 220, (9, 12, 3), dtype=np.uint8)).resize((600, 450))
    grained = np.asarray(smooth) + rng.normal(0, 9, (450, 600, 3))
    data = io.BytesIO()
    Image.fromarray(np.clip(grained, 0, 255).astype(np.uint8)).save(data, "JPEG", quality=95)
    return data.getvalue()


def plain_loop(source: Path, out: Path, size: int) -> None:
    """What one would write in ten minutes: open, convert, crop, resize, stack."""
    images = []
    for part in sorted(source.glob("*.zip")):
        with zipfile.ZipFile(part) as archive:
            for name in archive.namelist():
                image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
                side = min(image.size)
                left, top = (image.width - side) // 2, (image.height - side) // 2
                square = image.crop((left, top, left + side, top + side))
                images.append(np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)))
    np.save(out, np.stack(images))


def ingest(source: Path, out: Path, size: int) -> tuple[float, float]:
    """Seconds and peak MB of the command in a process of its own."""
    command = [sys.executable, "-m", "skin_gan.data", "ingest", source, "--size", size, "--out", out]
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    main()
