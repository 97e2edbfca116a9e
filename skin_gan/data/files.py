"""Lists the files of SOURCE, in folders and in zips, and reads them without unpacking.

A zip inside a folder is treated as a folder called NAME.zip. No member is ever written to disk. An archive
with unsafe paths, or with members that unpack to far more than they weigh, is refused as a whole.
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
COMPANIONS = {"license", "licence", "licenses", "attribution", "readme", "citation"}  # as in the ISIC Archive
MAX_FILES = 500_000
MAX_BYTES = 256 << 20  # of one file
MAX_ARCHIVE_BYTES = 1 << 40
# Photographs hardly shrink in a zip, tables do so tenfold. Files up to RATIO_FROM bytes may have any ratio.
MAX_RATIO, RATIO_FROM = 100, 10 << 20


# Raised on reading a damaged file or archive member
READ_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


@dataclass(frozen=True)
class File:
    """One file of SOURCE; `read` returns its bytes, or raises one of `READ_ERRORS`."""

    path: PurePosixPath  # inside SOURCE
    size: int  # bytes
    stamp: int  # CRC-32 in a zip, modification time in ns elsewhere: changes when the content does
    read: Callable[[], bytes]
    packed: bool = False  # whether it is in a zip; `stamp` is then a checksum of the content
    disk: Path | None = None  # its path on disk; None in a zip

    @property
    def is_image(self) -> bool:
        """Whether the name has an image's suffix; so for the next two."""
        return self.path.suffix.lower() in IMAGE_SUFFIXES

    @property
    def is_table(self) -> bool:
        return self.path.suffix.lower() in TABLE_SUFFIXES

    @property
    def is_spreadsheet(self) -> bool:
        """A table in a format that cannot be read here."""
        return self.path.suffix.lower() in SPREADSHEET_SUFFIXES

    @property
    def is_companion(self) -> bool:
        """Whether the file, or a folder that it is in, is a licence, a readme or the like."""
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
    """All files of a folder, zip or .npz, sorted by path, without leftovers of operating systems."""
    try:
        return _scan(source)
    except OSError as e:
        raise SkinGanError(
            f"cannot read SOURCE {source}: {e.strerror or e}; give a SOURCE that you may read"
        ) from e


def outside(path: Path) -> File:
    """A file that is not in SOURCE; its `path` is its name."""
    return _file(path, PurePosixPath(_printable(path.name)))


def _file(path: Path, name: PurePosixPath) -> File:
    """The file on disk at `path` under the path `name` of SOURCE."""
    info = path.stat()
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
    """A hash that changes when a file is added, removed, renamed or rewritten. No file is read."""
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
                yield _file(path, inside / _printable(name))


def _archive(path: Path, inside: PurePosixPath) -> Iterator[File]:
    try:
        stamp = path.stat().st_mtime_ns
        members = _opened(path, stamp).infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as e:
        raise SkinGanError(f"{path} is not a readable zip ({e}): download it again") from e
    _require_safe(path, members)
    for member in members:
        name = member.filename.replace("\\", "/")  # written by some Windows tools
        parts = PurePosixPath(name).parts
        if not name.endswith("/") and not any(map(is_leftover, parts)):
            read = partial(_read_member, path, stamp, member)
            yield File(inside / "/".join(parts), member.file_size, member.CRC, read, packed=True)


def _require_safe(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """SkinGanError for an archive with unsafe paths, links, encryption, or too large members."""

    def refuse(why: str) -> SkinGanError:
        return SkinGanError(f"{path} is refused: {why}; download the archive from its official source")

    if len(members) > MAX_FILES:
        raise refuse(f"it has {len(members):,} members, more than {MAX_FILES:,}")
    for m in members:
        # ZipInfo.filename is cut at a NUL byte, orig_filename is not.
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
        return file.read(member.file_size)  # never more than the size that was checked


def _read_file(path: Path) -> bytes:
    """The bytes of a file of at most `MAX_BYTES`; OSError above."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise OSError(f"it has {size:,} bytes, more than {MAX_BYTES:,}")
    return path.read_bytes()


def _printable(name: str) -> str:
    """The name with non-UTF-8 bytes escaped, so that it can be written to the manifest."""
    return name.encode("utf-8", "backslashreplace").decode()


def _unreadable(error: OSError) -> None:
    raise SkinGanError(
        f"cannot read {error.filename}: {error.strerror}; give a SOURCE that you may read"
    ) from error
