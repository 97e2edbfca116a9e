"""Sample sets: generated images of a class, read from disk and validated.

    SET/df/images.npy          the images, uint8 [N,3,S,S]; or files: 00000.png ...
    SET/df/manifest.csv        file, sha256 of each
    SET/df/manifest.yaml       label, fold_fingerprint, count and origin

Or a zip of such folders, or a store. Sweeps write arrays, `python -m skin_gan.generate` PNG files. An array
on disk is memory-mapped. A class folder without manifest.yaml can be used too, but it is marked as
unverified, since the training photographs of its generator are unknown.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from skin_gan.data.decode import Damage, decode
from skin_gan.data.files import READ_ERRORS, File, scan
from skin_gan.data.store import open_store
from skin_gan.errors import SkinGanError
from skin_gan.folders import ARRAY
from skin_gan.pixels import digest

MANIFEST, TABLE = "manifest.yaml", "manifest.csv"


@dataclass(frozen=True)
class SampleSet:
    """Generated images of one class."""

    label: str
    images: NDArray[np.uint8]  # [N,3,H,W] in 0..255
    names: NDArray[np.str_]  # [N] file of each, its id, or its place in an array
    fold_fingerprint: str | None  # of the data and fold of its generator's training; None: unknown
    origin: Mapping[str, Any] = field(default_factory=dict)  # its manifest
    whole: SampleSet | None = None  # the set of which this is a subset; its features are cached
    rows: NDArray[np.int64] | None = None  # [N] places in `whole`

    def fingerprint(self, n: int | None = None) -> str:
        """A hash of the class and of the first `n` images (None: of all), in their order."""
        first = self.images[:n]
        return digest(f"{self.label}:{first.shape}", first)


def read_samples(
    path: Path, size: int, labels: Sequence[str] | None = None, resize: bool = False
) -> dict[str, SampleSet]:
    """The sets of `labels` (None: of every class folder) in a folder, zip or store, at `size` pixels.

    Other resolutions are an error; with `resize`, image files without a manifest are cropped and scaled as in
    an ingest. SkinGanError for a missing class, an image that is unreadable, transparent or less than half of
    `size`, or a manifest that does not match its images.
    """
    path = Path(path)
    if (path / "store.json").is_file():
        return _from_store(path, size, labels)
    folders = _folders(path)
    wanted = sorted(folders) if labels is None else labels
    missing = [label for label in wanted if label not in folders]
    if missing or not wanted:
        raise SkinGanError(
            f"{path} has no folder for {', '.join(missing) or 'any class'} (folders there: "
            f"{', '.join(sorted(folders)) or 'none'}): expected a folder of images per class, named like it"
        )
    return {label: _read(path / label, label, folders[label], size, resize) for label in wanted}


@dataclass(frozen=True)
class Survey:
    """A class of a sample set, from its manifest and first image alone."""

    size: tuple[int, int]  # width and height in pixels
    fold_fingerprint: str | None  # as in a SampleSet
    verified: bool  # whether there is a manifest; such images are not scaled


def survey(path: Path, size: int) -> dict[str, Survey]:
    """The classes of a set that have images. `size`: the preferred size of a store.

    SkinGanError if the set, a manifest or a first image cannot be read.
    """
    if (path / "store.json").is_file():
        store = open_store(path)
        side = size if size in store.sizes else max(store.sizes, default=0)
        one = Survey((side, side), store.source.get("fold_fingerprint"), True)
        return {label: one for label, n in store.counts.items() if n}
    found = {}
    for label, files in sorted(_folders(path).items()):
        if first := next((f for f in files if _holds_images(f)), None):
            listed = next((f for f in files if f.path == PurePosixPath(label, MANIFEST)), None)
            origin = _yaml(path / label / MANIFEST, _bytes(path / label / MANIFEST, listed)) if listed else {}
            print_ = origin.get("fold_fingerprint")
            pixels = _size(path / first.path, first)
            found[label] = Survey(pixels, None if print_ is None else str(print_), listed is not None)
    return found


def _folders(path: Path) -> dict[str, list[File]]:
    found: dict[str, list[File]] = {}
    for file in scan(path):
        if len(file.path.parts) > 1:
            found.setdefault(file.path.parts[0], []).append(file)
    return found


def _holds_images(file: File) -> bool:
    return file.is_image or file.path.name == ARRAY


def _size(path: Path, file: File) -> tuple[int, int]:
    """Width and height in pixels of an image file, or of the images of an array."""
    if file.path.name == ARRAY:
        _, _, height, width = _array(path, file).shape
        return width, height
    data = _bytes(path, file)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except Exception as e:  # decoders raise nearly anything on damaged bytes
        raise SkinGanError(f"{path} is no usable image ({e}): remove it or write it again") from e


def check_fold(sample: SampleSet, fingerprint: str, unverified: bool = False) -> None:
    """SkinGanError unless the set's generator was trained on the fold with this fingerprint.

    `unverified`: allow a set without a fold; a set of another fold is never allowed.
    """
    if sample.fold_fingerprint is None and unverified:
        return
    if sample.fold_fingerprint is None:
        raise SkinGanError(
            f"the samples of {sample.label} do not say which fold their generator was trained on (no "
            f"{MANIFEST} with a fold_fingerprint): expected {fingerprint}; allow unverified samples to use "
            "them all the same, and look at the leakage check"
        )
    if sample.fold_fingerprint != fingerprint:
        raise SkinGanError(
            f"the samples of {sample.label} come from another fold or other data: their fold_fingerprint is "
            f"{sample.fold_fingerprint}, this fold's is {fingerprint}; their generator may have seen this "
            "fold's test images. Generate from this fold's generator"
        )


def require(samples: Mapping[str, SampleSet], wanted: Mapping[str, int]) -> None:
    """SkinGanError unless each class has at least the `wanted` number of images."""
    have = {label: len(s.images) for label, s in samples.items()}
    short = {label: n for label, n in wanted.items() if n > have.get(label, 0)}
    if short:
        what = ", ".join(f"{label}: {n} needed, {have.get(label, 0)} there" for label, n in short.items())
        raise SkinGanError(f"too few samples ({what}): generate more (--count), or choose a smaller balance")


def subset(sample: SampleSet, rows: NDArray[np.integer] | NDArray[np.bool_]) -> SampleSet:
    """The subset of the images at `rows` (places or a mask)."""
    places = np.arange(len(sample.images))[rows]
    return SampleSet(
        label=sample.label,
        images=sample.images[places],
        names=sample.names[places],
        fold_fingerprint=sample.fold_fingerprint,
        origin=sample.origin,
        whole=sample.whole or sample,
        rows=places if sample.rows is None else sample.rows[places],
    )


def _read(place: Path, label: str, files: list[File], size: int, resize: bool) -> SampleSet:
    inside = {str(PurePosixPath(*f.path.parts[1:])): f for f in files}
    found = {name: f for name, f in inside.items() if _holds_images(f)}
    if not found:
        raise SkinGanError(f"{place} has no images: expected {ARRAY}, or PNG or JPEG files, of class {label}")
    if ARRAY in found and len(found) > 1:
        raise SkinGanError(f"{place} has {ARRAY} and {len(found) - 1} other images: remove one or the other")
    origin: dict[str, Any] = {}
    if MANIFEST in inside:
        origin = _yaml(place / MANIFEST, _bytes(place / MANIFEST, inside[MANIFEST]))
        _check_manifest(place, label, origin, inside, found)
    if ARRAY in found:
        pixels = _array(place / ARRAY, found[ARRAY], size)
        names = [f"{i:05d}" for i in range(len(pixels))]
    else:
        pixels, names = np.empty((len(found), 3, size, size), np.uint8), list(found)
        for i, (name, file) in enumerate(found.items()):
            image = _decode(place / name, _bytes(place / name, file), size, resize and not origin)
            pixels[i] = image.transpose(2, 0, 1)
    if origin.get("count", len(pixels)) != len(pixels):
        raise _mismatch(place, f"{MANIFEST} counts {origin['count']} images, and {len(pixels)} are there")
    print_ = origin.get("fold_fingerprint")
    return SampleSet(
        label=label,
        images=pixels,
        names=np.array(names, dtype=np.str_),
        fold_fingerprint=None if print_ is None else str(print_),
        origin=origin,
    )


def _check_manifest(
    place: Path, label: str, origin: Mapping[str, Any], inside: Mapping[str, File], found: Mapping[str, File]
) -> None:
    """SkinGanError unless the files `found` are those that the table lists."""
    if origin.get("label") != label:
        raise _mismatch(place, f"{MANIFEST} says class {origin.get('label')}, the folder {label}")
    if TABLE not in inside:
        raise _mismatch(place, f"it has {MANIFEST} and no {TABLE}")
    try:
        text = _bytes(place / TABLE, inside[TABLE]).decode()
        rows = {r["file"]: r["sha256"] for r in csv.DictReader(io.StringIO(text))}
    except (KeyError, UnicodeDecodeError, csv.Error) as e:
        raise _mismatch(place, f"{TABLE} is damaged: expected the columns file and sha256") from e
    for what, names in (
        ("lacks", rows.keys() - found.keys()),
        ("does not list", found.keys() - rows.keys()),
        ("has other images than listed under", {n for n in rows.keys() & found.keys()
                                               if _sha256(place / n, found[n]) != rows[n]}),
    ):  # fmt: skip
        if names:
            raise _mismatch(place, f"it {what} {len(names)} of its images, such as {min(names)}")


def _sha256(path: Path, file: File) -> str:
    if file.disk is None:
        return hashlib.sha256(_bytes(path, file)).hexdigest()
    try:
        with open(file.disk, "rb") as opened:  # an array may be larger than memory
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as e:
        raise _unreadable(path, e) from e


def _array(path: Path, file: File, size: int | None = None) -> NDArray[np.uint8]:
    """The images uint8 [N,3,H,W] of an array, memory-mapped unless it is in a zip.

    Pages that are written to become the process's own: torch warns of arrays that cannot be written.
    SkinGanError for another kind of array, and unless height and width are `size`, if that is given.
    """
    try:
        images = np.load(file.disk or io.BytesIO(file.read()), "c" if file.disk else None)
    except (*READ_ERRORS, ValueError) as e:
        raise _unreadable(path, e) from e
    kind = getattr(images, "dtype", None), *getattr(images, "shape", ())
    if len(kind) != 5 or kind[0] != np.uint8 or kind[2] != 3:
        raise SkinGanError(f"{path} holds {kind[0]} {list(kind[1:])}: expected images uint8 [N,3,S,S]")
    if size and kind[3:] != (size, size):
        raise SkinGanError(f"{path} has images of {kind[4]}x{kind[3]} pixels, expected {size}x{size}: "
                           "generate at that size")  # fmt: skip
    return images  # type: ignore[no-any-return]


def _decode(path: Path, data: bytes, size: int, resize: bool) -> NDArray[np.uint8]:
    decoded = decode(data, [size], (0, 0, 0))
    if isinstance(decoded, Damage):
        raise SkinGanError(f"{path} is no usable image ({decoded.why}): remove it or write it again")
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        if (width, height) != (size, size) and not resize:
            raise SkinGanError(
                f"{path} has {width}x{height} pixels, expected {size}x{size}: generate at that size"
            )
        if min(width, height) * 2 < size:
            raise SkinGanError(
                f"{path} has {width}x{height} pixels, too few for {size}x{size}: expected at least half"
            )
        if decoded.transparent and any(image.convert("RGBA").getchannel("A").histogram()[:255]):
            raise SkinGanError(f"{path} has transparent pixels: save it without an alpha channel")
    return decoded.images[size]


def _from_store(path: Path, size: int, labels: Sequence[str] | None) -> dict[str, SampleSet]:
    """The sets in a store of generated images; its `source` may have a `fold_fingerprint`."""
    store = open_store(path)
    absent = [c for c in labels or () if c not in store.classes]
    if absent:
        raise SkinGanError(f"store {path} has no class {', '.join(absent)} (it has {store.classes})")
    dx = store.column("dx")
    ids = store.column("image_id")
    return {
        c: SampleSet(
            label=c,
            images=store.pixels(size, np.flatnonzero(dx == c)),
            names=ids[dx == c],
            fold_fingerprint=store.source.get("fold_fingerprint"),
            origin={"store": store.name, **store.source},
        )
        for c in labels or store.classes
    }


def _bytes(path: Path, file: File) -> bytes:
    try:
        return file.read()
    except READ_ERRORS as e:
        raise _unreadable(path, e) from e


def _unreadable(path: Path, why: Exception) -> SkinGanError:
    return SkinGanError(f"{path} cannot be read ({why}): write the sample set again")


def _yaml(path: Path, data: bytes) -> dict[str, Any]:
    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise SkinGanError(f"{path} is cut or damaged: write the sample set again") from e
    if not isinstance(content, dict):
        raise SkinGanError(f"{path} is cut or damaged: expected keys and values")
    return content


def _mismatch(place: Path, why: str) -> SkinGanError:
    return SkinGanError(f"{place}: its manifest does not match its images: {why}; generate the set again")
