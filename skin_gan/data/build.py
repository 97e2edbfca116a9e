"""Writes a store atomically: it exists whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from skin_gan.data.store import COLUMNS, image_file
from skin_gan.errors import SkinGanError
from skin_gan.io import lock, locked


@contextlib.contextmanager
def building(out: Path, option: str = "--out") -> Iterator[Path]:
    """A temporary folder that is renamed to `out` when the block ends, and removed if it fails.

    If another process has built `out` in the meantime, that one stays. Errors of the disk become a
    SkinGanError that names `option`, the setting that chooses the folder.
    """
    with explained(out, option):
        out.parent.mkdir(parents=True, exist_ok=True)
        with _work_folder(out.parent, out.name) as folder:
            yield folder
            _publish(folder, out)


class ImageWriter:
    """Appends images to a .npy file; the header with their number is written when it is closed."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size, self.rows = size, 0
        self._file = open(image_file(folder, size), "wb")  # noqa: SIM115 - closed by __exit__
        self._write_header()

    def append(self, image: NDArray[np.uint8]) -> None:
        """Add one image, uint8 [size,size,3]."""
        self._file.write(np.ascontiguousarray(image).data)
        self.rows += 1

    def _write_header(self) -> None:
        # NumPy pads the header for any length of the first axis, so that it can be rewritten in place.
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.rows, self.size, self.size, 3)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> ImageWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._file.seek(0)
                self._write_header()
                self._file.flush()
                os.fsync(self._file.fileno())


def write_images(folder: Path, sizes: Sequence[int], images: Iterable[dict[int, NDArray[np.uint8]]]) -> None:
    """Write images-SIZE.npy of every size from images [size,size,3] by size, in the manifest's order."""
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(ImageWriter(folder, size)) for size in sizes]
        for image in images:
            for writer in writers:
                writer.append(image[writer.size])


def add_sizes(
    store: Path, sizes: Sequence[int], images: Iterable[dict[int, NDArray[np.uint8]]], option: str = "--out"
) -> None:
    """Add images of further sizes to a store, each file atomically; existing files stay as they are."""
    with explained(store, option), _work_folder(store, "sizes") as folder:
        write_images(folder, sizes, images)
        for size in sizes:
            image_file(folder, size).replace(image_file(store, size))


def manifest_csv(rows: Sequence[dict[str, str]]) -> str:
    """The text of manifest.csv: the five fixed columns, then the source's own in their order."""
    extra = dict.fromkeys(key for row in rows for key in row if key not in COLUMNS)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *extra], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@contextlib.contextmanager
def _work_folder(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `parent`, which the block may rename; otherwise it is removed afterwards.

    A kill leaves the folder behind, with a free lock; the next call with the same name removes it.
    """
    for stale in parent.glob(f".{glob.escape(name)}.*.partial"):
        if (stale / "lock").exists() and not locked(stale / "lock"):
            shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=parent))
    try:
        with lock(folder / "unlocked"):
            (folder / "unlocked").rename(folder / "lock")  # so others only ever see a held lock
            os.umask(mask := os.umask(0))
            folder.chmod(0o777 & ~mask)  # mkdtemp's 0700 would hide a store from the group
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, out: Path) -> None:
    """Rename `folder` to `out`, unless another process has put a store there."""
    try:
        folder.rename(out)
    except OSError:
        if not (out / "store.json").exists():
            raise
        return
    (out / "lock").unlink()


@contextlib.contextmanager
def explained(out: Path, option: str = "--out") -> Iterator[None]:
    """Turn an OSError into a SkinGanError with the system's reason and the option that chooses the folder."""
    try:
        yield
    except OSError as e:
        raise SkinGanError(
            f"cannot write store {out}: {e.strerror or e}; free space or choose another folder with {option}"
        ) from e
