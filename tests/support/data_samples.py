"""Small sources in every layout, for the tests of skin_gan.data."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from skin_gan.data.__main__ import main

HEADER = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset"]
LABELS = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]


def picture(seed: int, size: tuple[int, int] = (60, 45)) -> Image.Image:
    """A smooth random picture; two seeds never look alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, format, **options)
    return data.getvalue()


def jpeg(seed: int) -> bytes:
    return encode(picture(seed), quality=90)


def rows(n: int, per_lesion: int = 2) -> list[list[str]]:
    """Metadata rows of n images; every lesion has `per_lesion` of them and a single class."""
    found = []
    for i in range(n):
        lesion = i // per_lesion
        found.append(
            [
                f"HAM_{lesion:07d}",
                f"ISIC_{i:07d}",
                LABELS[lesion % 7],
                "histo",
                "50.0",
                "male",
                "back",
                "rosendahl",
            ]
        )
    return found


def table(header: list[str], lines: list[list[str]], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([header, *lines])
    return text.getvalue().encode()


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def unpack(folder: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def ham10000(folder: Path, n: int = 28, changes: dict[str, bytes | None] | None = None) -> Path:
    """The official layout with n images in two zips; `changes` replace or (None) remove files of part 1."""
    folder.mkdir(parents=True, exist_ok=True)
    images: dict[str, bytes] = {f"ISIC_{i:07d}.jpg": jpeg(i) for i in range(n)}
    names = list(images)
    first = {name: images[name] for name in names[: n // 2]}
    for name, data in (changes or {}).items():
        if data is None:
            del first[name]
        else:
            first[name] = data
    pack(folder / "HAM10000_images_part_1.zip", first)
    pack(folder / "HAM10000_images_part_2.zip", {name: images[name] for name in names[n // 2 :]})
    (folder / "HAM10000_metadata.csv").write_bytes(table(HEADER, rows(n)))
    return folder


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """`python -m skin_gan.data ...` in a process of its own."""
    line = [sys.executable, "-m", "skin_gan.data", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def cli(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, which is quicker: what the command line lets through fails the test."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        try:
            code = main([str(w) for w in words])
        except SystemExit as e:  # argparse
            code = int(e.code or 0)
        finally:
            signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def findings(store: Path) -> dict[str, list[str]]:
    """What report.json names, by kind; kinds without a case are left out."""
    report = json.loads((store / "report.json").read_text())
    for found in report["findings"].values():
        assert found["count"] == len(found["cases"])
    return {kind: found["cases"] for kind, found in report["findings"].items() if found["cases"]}
