"""File access for shared disks: atomic writes, appended records, locks. No torch."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from skin_gan.errors import SkinGanError


def unwritable(path: Path, error: OSError) -> SkinGanError:
    return SkinGanError(
        f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
    )


def unreadable(path: Path, error: OSError) -> SkinGanError:
    return SkinGanError(f"cannot read {path}: {error.strerror or error}; check the disk and who may read it")


class _Recorded:
    """A binary file that keeps the first error of its writes.

    Writers of torch and zipfile raise an error of their own instead, which does not name the cause.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as e:
            self.error = self.error or e
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def write_atomic(path: Path, content: bytes | str | Callable[[IO[bytes]], Any]) -> None:
    """Replace `path` atomically: a reader, also after a kill, sees the old content or the new one.

    `content` is the content, or a function that writes it into an open binary file. Raises SkinGanError with
    the system's reason if the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    recorded: _Recorded | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            if callable(content):
                recorded = _Recorded(file)
                content(recorded)  # type: ignore[arg-type]
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as e:
        cause = recorded.error if recorded and recorded.error else e
        if not isinstance(cause, OSError):
            raise
        raise unwritable(path, cause) from e
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `target` when the block ends, and removed if it fails."""
    folder = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
        folder.replace(target)
    except OSError as e:
        raise unwritable(target, e) from e
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` atomically by a JSON value."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False))


def append_jsonl(path: Path, row: dict[str, Any], sync: bool = False) -> None:
    """Append one record as a line. An incomplete last line, left by a kill, is ended first.

    With `sync` it is on the disk when this returns, whatever happens to the machine then.
    """
    line = json.dumps(row, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except OSError as e:
        raise unwritable(path, e) from e


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All complete records of the file, in order; [] for a missing file. Incomplete lines are skipped."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as e:
        raise unreadable(path, e) from e
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):  # an incomplete line, left by a kill
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows


def size_of(path: Path) -> int:
    """The file's size in bytes, 0 if it is missing. It is opened, so that a shared disk answers for now."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return 0
    except OSError as e:
        raise unreadable(path, e) from e


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in the file, or None if there is no file; SkinGanError if it is not valid."""
    try:
        value = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as e:
        raise unreadable(path, e) from e
    except ValueError as e:
        raise SkinGanError(f"{path} is not valid JSON ({e}): remove it and run the same command again") from e
    if not isinstance(value, dict):
        raise SkinGanError(
            f"{path}: expected an object, got {value!r:.40}: remove it and run the same command again"
        )
    return value


def _print_waiting(what: str) -> None:
    if what:
        print(what, file=sys.stderr, flush=True)


# Called with what this process waits for, and with "" when it goes on. Jobs write it into their records.
waiting: ContextVar[Callable[[str], object]] = ContextVar("waiting", default=_print_waiting)
# The name of this process for those that wait for its locks: the job's name in a job.
holder: ContextVar[str] = ContextVar("holder", default="")


@contextlib.contextmanager
def lock(path: Path, wait: float = 0.0, what: str = "") -> Iterator[IO[bytes] | None]:
    """Hold an exclusive lock during the block; yields None if another process still has it after `wait` s.

    The kernel frees the lock when its holder ends, so there are no stale locks. `what` is computed under the
    lock: a process that waits for it reports that, and the holder's name (see `waiting`). SkinGanError if the
    file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")  # noqa: SIM115 - closed below, which frees the lock
    except OSError as e:
        raise unwritable(path, e) from e
    with file:
        deadline, reported = time.monotonic() + wait, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    if what and not reported:
                        reported = True
                        waiting.get()(f"waiting for {what}, computed by {_holder_of(path)}")
                    time.sleep(0.1)
                    continue
                yield None
                return
            except OSError as e:  # ENOSYS, ENOLCK or EOPNOTSUPP
                raise SkinGanError(
                    f"no file locks in {path.parent}: {e.strerror or e}; mount its file system with flock, "
                    "or choose another folder (results=, profile.scratch=)"
                ) from e
            if reported:
                waiting.get()("")
            if what:
                _write_holder(file)
            yield file
            return


def _write_holder(file: IO[bytes]) -> None:
    """Write the holder's name into the lock file, if the disk allows it."""
    me = f"process {os.getpid()} on {socket.gethostname()}"
    with contextlib.suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), (f"{holder.get()} ({me})" if holder.get() else me).encode())


def _holder_of(path: Path) -> str:
    """The name of the lock's holder in its file."""
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace") or "another process"
    return "another process"


def locked(path: Path) -> bool:
    """Whether some process holds the lock now. The file need not be writable and is not created."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError as e:
        raise unreadable(path, e) from e
    return False
