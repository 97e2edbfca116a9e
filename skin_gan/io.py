"""Files as they have to be on shared disks: atomic writes, appended records, locks. No torch."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from skin_gan.errors import SkinGanError


def unwritable(path: Path, error: OSError) -> SkinGanError:
    cause = error.strerror or error
    return SkinGanError(f"cannot write {path}: {cause}; free space or choose another folder")


def unreadable(path: Path, error: OSError) -> SkinGanError:
    return SkinGanError(f"cannot read {path}: {error.strerror or error}; check the disk and who may read it")


class _Recorded:
    """A binary file that keeps the first error of its writes.

    Writers of other libraries replace it by one of their own, which names neither the disk nor the quota:
    torch's and zipfile's raise again while they close an archive that was cut.
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
    """Replace `path` as a whole or not at all: a reader, or a run after a kill, sees old or new, never half.

    `content` is what to write, or a function that writes into an open binary file. SkinGanError with the
    system's reason where it cannot be written, whatever error that function makes of it.
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


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Add one record as one line. A line that an earlier kill cut short is closed first."""
    line = json.dumps(row, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())
    except OSError as e:
        raise unwritable(path, e) from e


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All whole records of the file, in order; a missing file has none, a cut line is passed over."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as e:
        raise unreadable(path, e) from e
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a line cut by a kill; its work is done again
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file, or None where there is no file. Files are replaced atomically: no half ones."""
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
            f"{path}: expected an object, came {value!r:.40}: remove it and run the same command again"
        )
    return value


def _print_waiting(what: str) -> None:
    if what:
        print(what, file=sys.stderr, flush=True)


# Told what this process waits for, and "" when it goes on. A job puts that into its record.
waiting: ContextVar[Callable[[str], object]] = ContextVar("waiting", default=_print_waiting)
# Who this process is to those that wait for it: a job's name where it is one.
holder: ContextVar[str] = ContextVar("holder", default="")


@contextlib.contextmanager
def lock(path: Path, wait: float = 0.0, what: str = "") -> Iterator[IO[bytes] | None]:
    """Hold an exclusive lock for as long as the block lasts; yields None if another process keeps it.

    The kernel frees it when its last holder dies, however it dies, so there is no stale lock to clean up.
    `what` is being made under the lock: one that waits for it says so, and who makes it (see `waiting`).
    SkinGanError where the file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")  # noqa: SIM115 - closed below, which frees the lock
    except OSError as e:
        raise unwritable(path, e) from e
    with file:
        deadline, told = time.monotonic() + wait, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    if what and not told:
                        told = True
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
            if told:
                waiting.get()("")
            if what:
                _say_holder(file)
            yield file
            return


def _say_holder(file: IO[bytes]) -> None:
    """Write into a lock's file who has it; a disk that is full takes nothing from the lock."""
    me = f"process {os.getpid()} on {socket.gethostname()}"
    with contextlib.suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), (f"{holder.get()} ({me})" if holder.get() else me).encode())


def _holder_of(path: Path) -> str:
    """Who has the lock, as far as its file says."""
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace") or "another process"
    return "another process"


def locked(path: Path) -> bool:
    """Whether some process holds the lock now. The file need not be writable, and is not made."""
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
