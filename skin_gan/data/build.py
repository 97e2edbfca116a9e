"""Writing a store so that it exists whole or not at all."""

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
    """A folder to build `out` in; it becomes `out` when the block ends well, else it is removed.

    If `out` has come to be in the meantime (two processes built it), the first one stays. `option` is what
    the command calls the place: an error on the disk names it.
    """
    with explained(out, option):
        out.parent.mkdir(parents=True, exist_ok=True)
        with _work_folder(out.parent, out.name) as folder:
            yield folder
            _publish(folder, out)


class ImageWriter:
    """Appends images to a .npy file of unknown length; the rows written so far are its shape once closed."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size, self.rows = size, 0
        self._file = open(image_file(folder, size), "wb")  # noqa: SIM115 - closed by __exit__
        self._header()

    def append(self, image: NDArray[np.uint8]) -> None:
        """Add one image, uint8 [size,size,3]."""
        self._file.write(np.ascontiguousarray(image).data)
        self.rows += 1

    def _header(self) -> None:
        # numpy pads the header for any length of the first axis, so that it can be rewritten in place
        shape = (self.rows, self.size, self.size, 3)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )

    def __enter__(self) -> ImageWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._file.seek(0)
                self._header()
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
    """Add images of further sizes to a store; they appear whole, and what was there stays as it was."""
    with explained(store, option), _work_folder(store, "sizes") as folder:
        write_images(folder, sizes, images)
        for size in sizes:
            image_file(folder, size).replace(image_file(store, size))


def manifest_csv(rows: Sequence[dict[str, str]]) -> str:
    """The text of manifest.csv: the five fixed columns, then the source's own in the order they came."""
    extra = dict.fromkeys(key for row in rows for key in row if key not in COLUMNS)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *extra], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@contextlib.contextmanager
def _work_folder(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `parent` that is gone afterwards, renamed or removed.

    A kill leaves it behind, with a lock that nobody holds: the next one of the same name removes it.
    """
    for stale in parent.glob(f".{glob.escape(name)}.*.partial"):
        if (stale / "lock").exists() and not locked(stale / "lock"):
            shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=parent))
    try:
        with lock(folder / "unlocked"):
            (folder / "unlocked").rename(folder / "lock")  # never seen under this name without being held
            folder.chmod(0o777 & ~_umask())  # mkdtemp's 0700 would hide a store from the group
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, out: Path) -> None:
    try:
        folder.rename(out)
    except OSError:
        if not (out / "store.json").exists():
            raise
        return
    (out / "lock").unlink()


@contextlib.contextmanager
def explained(out: Path, option: str = "--out") -> Iterator[None]:
    """Turn what the disk refuses into one line with the system's reason and the option that names another."""
    try:
        yield
    except OSError as e:
        raise SkinGanError(
            f"cannot write store {out}: {e.strerror or e}; free space or choose another folder with {option}"
        ) from e


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
