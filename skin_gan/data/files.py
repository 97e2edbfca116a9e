"""What lies in SOURCE: one list of files, whether they are in folders or in zips, read without unpacking.

A zip inside a folder counts as a folder called NAME.zip. No member is ever written to disk, and an archive
that tries a path trick, or promises far more than it weighs, is refused as a whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

from skin_gan.data.words import is_leftover
from skin_gan.errors import SkinGanError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
TABLE_SUFFIXES = {".csv", ".tab", ".tsv"}
SPREADSHEET_SUFFIXES = {".xlsx", ".xls", ".xlsm", ".ods", ".numbers", ".parquet", ".feather"}
COMPANIONS = {
    "license",
    "licence",
    "licenses",
    "attribution",
    "readme",
    "citation",
}  # as the ISIC Archive has
MAX_FILES = 500_000
MAX_BYTES = 256 << 20  # of one file
MAX_ARCHIVE_BYTES = 1 << 40
# Photographs hardly shrink in a zip; tables do so tenfold. Small files may be as empty as they like.
MAX_RATIO, RATIO_FROM = 100, 10 << 20


# what reading a damaged file or archive member raises
READ_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


@dataclass(frozen=True)
class File:
    """One file of SOURCE; `read` gives its bytes, or raises one of `READ_ERRORS`."""

    path: PurePosixPath  # inside SOURCE
    size: int  # bytes
    stamp: int  # CRC-32 in a zip, modification time in ns elsewhere: changes when the content does
    read: Callable[[], bytes]
    packed: bool = False  # in a zip: `stamp` is then a checksum of the content
    disk: Path | None = None  # where it lies, unless that is in a zip

    @property
    def is_image(self) -> bool:
        """By name only."""
        return self.path.suffix.lower() in IMAGE_SUFFIXES

    @property
    def is_table(self) -> bool:
        return self.path.suffix.lower() in TABLE_SUFFIXES

    @property
    def is_spreadsheet(self) -> bool:
        """A table in a form that is not read here."""
        return self.path.suffix.lower() in SPREADSHEET_SUFFIXES

    @property
    def is_companion(self) -> bool:
        """Whether it is a file, or lies in a folder, that goes with a data set and is no part of it."""
        return any(PurePosixPath(part).stem.lower() in COMPANIONS for part in self.path.parts)

    def same_content(self, other: File) -> bool:
        """Whether both hold the same bytes; an unreadable file equals none."""
        if self.size != other.size:
            return False
        if self.packed and other.packed:
            return self.stamp == other.stamp
        try:
            return self.read() == other.read()
        except READ_ERRORS:
            return False


def scan(source: Path) -> list[File]:
    """All files of a folder or a zip, sorted by path; what systems leave behind is not among them."""
    try:
        return _scan(source)
    except OSError as e:
        raise SkinGanError(
            f"cannot read SOURCE {source}: {e.strerror or e}; give a SOURCE that you may read"
        ) from e


def outside(path: Path) -> File:
    """A single file that SOURCE does not hold, under its name."""
    info = path.stat()
    name = PurePosixPath(_printable(path.name))
    return File(name, info.st_size, info.st_mtime_ns, partial(_read_file, path), disk=path)


def _scan(source: Path) -> list[File]:
    if source.is_dir():
        found = _folder(source)
    elif source.is_file() and source.suffix.lower() == ".npz":
        found = iter([outside(source)])
    elif source.is_file() and (source.suffix.lower() == ".zip" or zipfile.is_zipfile(source)):
        found = _archive(source, PurePosixPath())
    elif source.exists():
        raise SkinGanError(
            f"SOURCE {source} is neither a folder nor a zip nor a .npz: give the folder that holds the images"
        )
    else:
        raise SkinGanError(f"SOURCE {source} does not exist: give a folder or a zip of images")
    files = []
    for file in found:
        files.append(file)
        if len(files) > MAX_FILES:
            raise SkinGanError(
                f"SOURCE {source} has more than {MAX_FILES:,} files: give the data set's own folder"
            )
    return sorted(files, key=lambda f: str(f.path))


def signature(files: Sequence[File]) -> str:
    """Changes when a file is added, removed, renamed or rewritten. Nothing is read for it."""
    text = "\n".join(f"{f.path}\t{f.size}\t{f.stamp}" for f in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _folder(root: Path) -> Iterator[File]:
    visited = set()
    for folder, folders, names in os.walk(root, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        if "store.json" in names:  # an earlier ingest's result, not its source
            folders.clear()
            continue
        folders[:] = sorted(d for d in folders if not is_leftover(d))
        inside = PurePosixPath(_printable(Path(folder).relative_to(root).as_posix()))
        for name in names:
            path = Path(folder) / name
            if is_leftover(name) or not path.is_file():
                continue
            if path.suffix.lower() == ".zip":
                yield from _archive(path, inside / _printable(name))
            else:
                info = path.stat()
                read = partial(_read_file, path)
                yield File(inside / _printable(name), info.st_size, info.st_mtime_ns, read, disk=path)


def _archive(path: Path, inside: PurePosixPath) -> Iterator[File]:
    try:
        stamp = path.stat().st_mtime_ns
        members = _opened(path, stamp).infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as e:
        raise SkinGanError(f"{path} is not a readable zip ({e}): download it again") from e
    _refuse_tricks(path, members)
    for member in members:
        name = member.filename.replace("\\", "/")  # some Windows tools write those, for folders too
        parts = PurePosixPath(name).parts
        if not name.endswith("/") and not any(map(is_leftover, parts)):
            read = partial(_read_member, path, stamp, member)
            yield File(inside / "/".join(parts), member.file_size, member.CRC, read, packed=True)


def _refuse_tricks(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    def refuse(why: str) -> SkinGanError:
        return SkinGanError(f"{path} is refused: {why}; download the archive from its official source")

    if len(members) > MAX_FILES:
        raise refuse(f"it has {len(members):,} members, more than {MAX_FILES:,}")
    for m in members:
        # the name as it stands in the archive: ZipInfo.filename is cut at a NUL
        name = m.orig_filename.replace("\\", "/")
        if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/") or "\0" in name:
            raise refuse(f"its member {name!r} has a path that leads out of it")
        if stat.S_ISLNK(m.external_attr >> 16):
            raise refuse(f"its member {name!r} is a link")
        if m.flag_bits & 1:
            raise refuse(f"its member {name!r} is encrypted")
        if m.file_size > MAX_BYTES:
            raise refuse(f"its member {name!r} unpacks to {m.file_size:,} bytes, more than {MAX_BYTES:,}")
        if m.file_size > RATIO_FROM and m.file_size > MAX_RATIO * max(1, m.compress_size):
            raise refuse(f"its member {name!r} unpacks from {m.compress_size:,} to {m.file_size:,} bytes")
    if sum(m.file_size for m in members) > MAX_ARCHIVE_BYTES:
        raise refuse(f"it unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes")


@lru_cache(maxsize=8)
def _opened(path: Path, stamp: int) -> zipfile.ZipFile:
    """The archive as it was at `stamp`, opened once per process."""
    return zipfile.ZipFile(path)


def _read_member(path: Path, stamp: int, member: zipfile.ZipInfo) -> bytes:
    with _opened(path, stamp).open(member) as file:
        # with a length, a stream longer than it declares is cut there instead of being unpacked whole
        return file.read(member.file_size)


def _read_file(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise OSError(f"it has {size:,} bytes, more than {MAX_BYTES:,}")
    return path.read_bytes()


def _printable(name: str) -> str:
    """A file's name with bytes that are no UTF-8 spelled out, so that it can be written to the manifest."""
    return name.encode("utf-8", "backslashreplace").decode()


def _unreadable(error: OSError) -> None:
    raise SkinGanError(
        f"cannot read {error.filename}: {error.strerror}; give a SOURCE that you may read"
    ) from error
