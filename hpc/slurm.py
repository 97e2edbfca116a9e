"""What Slurm knows and does: squeue, sacct, scancel, scontrol. One call for all jobs, with a time limit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpc.profiles import ProfileSettings
from skin_gan.errors import SkinGanError

# Against a broken daemon a client tries again for minutes.
TIMEOUT = 20.0
CONF = "SLURM_CONF"
FIELDS = ("JobArrayID", "State", "Reason", "TimeLeft", "RestartCnt", "NodeList")
LOCAL_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay")
PENDING, RUNNING = "PENDING", "RUNNING"


@dataclass(frozen=True)
class Queued:
    """A job that has not ended."""

    id: str  # 12, or 12_3 for an element of an array
    state: str
    reason: str  # why it is pending
    left: str  # until its time limit
    restarts: int
    nodes: str


def use(p: ProfileSettings) -> None:
    """Let Slurm's commands find the profile's cluster. SkinGanError if it is not there."""
    if os.environ.get(CONF) or not p.conf:
        return
    if not Path(p.conf).exists():
        raise SkinGanError(
            f"there is no {p.conf}: start the Slurm that the profile means (the testbed: slurm/testbed up)"
        )
    os.environ[CONF] = p.conf


def client(*words: str) -> str:
    """What one of Slurm's commands prints. SkinGanError if there is none, or it does not answer."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    except FileNotFoundError as e:
        raise SkinGanError(f"there is no {words[0]} here: run this where Slurm's commands are") from e
    except subprocess.TimeoutExpired as e:
        raise SkinGanError(f"Slurm does not answer: {words[0]} took over {TIMEOUT:.0f} s; try later") from e
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        error = said[-1].removeprefix(f"{words[0]}: ")
        raise SkinGanError(f"{words[0]} failed: {error}; is the cluster up (`sinfo`)?")
    return done.stdout


def queue() -> dict[str, Queued]:
    """This user's jobs that have not ended, by id; one squeue call."""
    text = client("squeue", "--me", "--noheader", "--array", "--Format", ",".join(f"{f}:|" for f in FIELDS))
    rows = (line.strip().split("|") for line in text.splitlines() if line.strip())
    jobs = (Queued(r[0], r[1], r[2], r[3], int(r[4] or 0), r[5]) for r in rows)
    return {job.id: job for job in jobs}


def ended(ids: Iterable[str]) -> dict[str, str]:
    """How jobs ended, such as TIMEOUT, by id: one sacct call. Empty where the cluster keeps no accounts."""
    wanted = ",".join(ids)
    if not wanted:
        return {}
    try:
        text = client("sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={wanted}")
    except SkinGanError:
        return {}  # many clusters have no sacct: the records and logs on disk tell as much
    rows = (line.split("|") for line in text.splitlines() if "|" in line)
    return {row[0]: row[1].split()[0] for row in rows}


def cancel(ids: Iterable[str]) -> None:
    _each("scancel", ids)


def hold(ids: Iterable[str]) -> None:
    _each("scontrol hold", ids)


def release(ids: Iterable[str]) -> None:
    _each("scontrol release", ids)


def _each(command: str, ids: Iterable[str]) -> None:
    if ids := list(ids):
        client(*command.split(), *ids)


def max_array() -> int | None:
    """Elements that the cluster allows in one array, or None where it does not say."""
    size = _fields(client("scontrol", "show", "config")).get("MaxArraySize")
    return int(size) - 1 if size else None  # the highest index is one less than the size


def _fields(text: str) -> dict[str, str]:
    """`name = value` lines."""
    return {
        name.strip(): value.strip() for name, _, value in (line.partition("=") for line in text.splitlines())
    }


def warnings(p: ProfileSettings, results: Path) -> list[str]:
    """What can be seen from here that jobs may stumble over."""
    found = []
    kind = filesystem(results)
    if kind in LOCAL_FILESYSTEMS:
        found.append(f"results={results} is on a disk of this machine ({kind}): every node must see it")
    if p.minutes <= 10:
        found.append("with profile.minutes of 10 or less, each preemption counts as one of profile.requeues")
    return found


def filesystem(path: Path) -> str:
    """The type of the file system that holds the path, such as nfs4; empty where the system does not tell."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    folders = [str(path), *map(str, path.parents)]
    types = {mount[1]: mount[2] for mount in mounts}
    return next((types[folder] for folder in folders if folder in types), "")
