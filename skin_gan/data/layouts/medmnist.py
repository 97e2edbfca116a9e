"""MedMNIST's .npz files (Yang 2023, doi:10.1038/s41597-022-01721-8), such as dermamnist_64.npz.

Arrays are read image by image, since dermamnist_224.npz unpacks to 1.5 GB. Nothing is unpickled.
"""

from __future__ import annotations

import io
import zipfile
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skin_gan.data.files import READ_ERRORS, File
from skin_gan.data.listing import Findings, Listing, Record, Row, non_images, only
from skin_gan.data.source import Source
from skin_gan.data.units import grouped
from skin_gan.errors import SkinGanError

SPLITS = ("train", "val", "test")
NAMES = {"dermamnist": ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")}  # the order of MedMNIST's labels
WARNING = (
    "MedMNIST has no lesion ids: photographs of one lesion lie in several parts of the split (641 lesions "
    "are in both training and test of its own), so results look better than they are"
)


class _MedMNIST:
    title = "MedMNIST (.npz)"

    def score(self, source: Source) -> tuple[bool, int]:
        return bool(_files(source)), 0 if _files(source) else -1

    def find(self, source: Source) -> Listing | None:
        """The images of the one .npz in SOURCE; SkinGanError if there are several."""
        files = _files(source)
        if len(files) > 1:
            names = ", ".join(str(f.path) for f in files)
            raise SkinGanError(f"SOURCE holds several .npz ({names}): give one of them as SOURCE")
        file = files[0]
        stem = file.path.stem.lower().partition("_")[0]
        rows, findings = [], Findings()
        for split in SPLITS:
            labels = _labels(file, split)
            images = _shape(file, split, len(labels))
            width = len(str(images - 1))
            for i, label in enumerate(labels):
                path = PurePosixPath(file.path, split, f"{i:0{width}d}.bmp")
                dx = _class(file, stem, label)
                image = File(path, file.size, file.stamp, partial(_image, file.disk, file.stamp, split, i))
                rows.append((Row(image_id=f"{split}/{i:0{width}d}", dx=dx, extra={"split": split}), image))
        units = grouped([r for r, _ in rows])
        records = [Record(**{**vars(r), "file": f}) for r, (_, f) in zip(units, rows, strict=True)]
        findings.non_image += non_images(source.files, files)
        notes = [f"layout: {self.title}; {file.path}: train, val and test are taken together", WARNING]
        if stem not in NAMES:
            notes.append(f"classes are the file's label numbers: it is not one of {', '.join(NAMES)}")
        return Listing("medmnist", file.path.stem.lower(), only(records, source.classes), findings, notes)


LAYOUT = _MedMNIST()


def _files(source: Source) -> list[File]:
    """The .npz files of a SOURCE without photographs and tables; beside those a .npz holds other things."""
    alone = not source.images.files and not source.tables.read
    return [f for f in source.files if f.path.suffix.lower() == ".npz" and alone]


def _labels(file: File, split: str) -> list[int]:
    """The labels of one split; SkinGanError unless there is one integer per image."""
    with _opened(file.disk, file.path) as arrays:
        values = _array(file, arrays, f"{split}_labels")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise SkinGanError(
            f"{file.path}: {split}_labels is {values.dtype} {list(values.shape)}, expected one integer per "
            "image: download it again"
        )
    return [int(v) for v in values]


def _array(file: File, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    try:
        with archive.open(f"{name}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    except KeyError as e:
        raise SkinGanError(
            f"{file.path} has no array {name}: expected MedMNIST's "
            f"{', '.join(f'{s}_images, {s}_labels' for s in SPLITS)}"
        ) from e
    except (*READ_ERRORS, ValueError) as e:
        raise SkinGanError(f"{file.path}: {name} cannot be read ({e}): download it again") from e


def _shape(file: File, split: str, labels: int) -> int:
    """The number of images of a split; SkinGanError unless they are one uint8 picture per label."""
    try:
        stream = _Stream(file.disk, split)
    except KeyError as e:
        raise SkinGanError(f"{file.path} has no array {split}_images: expected MedMNIST's arrays") from e
    except (*READ_ERRORS, ValueError) as e:
        raise SkinGanError(f"{file.path}: {split}_images cannot be read ({e}): download it again") from e
    shape = stream.shape
    picture = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
    if not picture or stream.dtype != np.uint8 or shape[0] != labels:
        raise SkinGanError(
            f"{file.path}: {split}_images is {stream.dtype} {list(shape)}, expected uint8 "
            f"[{labels}, height, width] or [..., 3]: download it again"
        )
    return int(shape[0])


class _Stream:
    """One array of images, read in order; to go back it is opened again."""

    def __init__(self, path: Path | None, split: str) -> None:
        self._path, self._split = path, split
        self._file: IO[bytes] = self._open()

    def _open(self) -> IO[bytes]:
        self._archive = zipfile.ZipFile(str(self._path))
        file = self._archive.open(f"{self._split}_images.npy")
        version = np.lib.format.read_magic(file)
        form = np.lib.format
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        self.shape, fortran, self.dtype = read(file)
        if fortran or self.dtype.hasobject:
            raise ValueError("expected images one after another, and no objects")
        self._next = 0
        return file

    def image(self, index: int) -> NDArray[np.uint8]:
        """Image `index`: uint8 [height,width] or [height,width,3]."""
        if index < self._next:
            self._file = self._open()
        size = int(np.prod(self.shape[1:]))
        while self._next < index:
            self._file.read(size)
            self._next += 1
        data = self._file.read(size)
        self._next += 1
        if len(data) < size:
            raise EOFError("the array ends too early")
        return np.frombuffer(data, np.uint8).reshape(self.shape[1:])


@lru_cache(maxsize=4)
def _stream(path: Path | None, stamp: int, split: str) -> _Stream:
    return _Stream(path, split)


def _image(path: Path | None, stamp: int, split: str, index: int) -> bytes:
    """Image `index` of a split as the bytes of a BMP file."""
    data = io.BytesIO()
    Image.fromarray(_stream(path, stamp, split).image(index)).save(data, "BMP")
    return data.getvalue()


def _class(file: File, stem: str, label: int) -> str:
    names = NAMES.get(stem)
    if names is None:
        return str(label)
    if not 0 <= label < len(names):
        raise SkinGanError(f"{file.path}: label {label}, expected 0 to {len(names) - 1}")
    return names[label]


def _opened(path: Path | None, name: PurePosixPath) -> zipfile.ZipFile:
    if path is None:
        raise SkinGanError(f"{name} lies in a zip: unpack it, and give the .npz as SOURCE")
    try:
        return zipfile.ZipFile(path)
    except (*READ_ERRORS, ValueError) as e:
        raise SkinGanError(f"{name} is no readable .npz ({e}): download it again") from e
