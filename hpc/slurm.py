"""What Slurm knows and does: squeue, sacct, scancel, scontrol. One call for all jobs, with a time limit."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hpc.config import Experiment
from hpc.environment import for_jobs
from hpc.profiles import ProfileSettings
from skin_gan.errors import SkinGanError

# Against a broken daemon a client tries again for minutes.
TIMEOUT = 20.0
CONF = "SLURM_CONF"
FIELDS = ("JobArrayID", "State", "Reason", "TimeLeft", "RestartCnt", "NodeList", "Name", "Comment")
LOCAL_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay")
PENDING, RUNNING, COMPLETING = "PENDING", "RUNNING", "COMPLETING"


class Unreachable(SkinGanError):
    """Slurm is not here, or does not answer."""


@dataclass(frozen=True)
class Queued:
    """A job that has not ended."""

    id: str  # 12, or 12_3 for an element of an array
    state: str
    reason: str  # why it is pending
    left: str  # until its time limit
    restarts: int
    nodes: str
    name: str  # STAGE-SWEEP, or the profile's own
    comment: str  # the folder of its sweep, or the profile's own; a site may remove it

    def of(self, run: Path) -> bool:
        """Whether it is a job of this sweep: another cluster, or a new one, gives the same ids again."""
        if self.comment.startswith("/"):  # hosts may mount the results in different places
            there = Path(self.comment)
            return there.parts[-2:] == run.parts[-2:] or there.resolve() == run.resolve()
        sweep = run.parent.name
        named = self.name.endswith(f"-{sweep}") or self.name.startswith(f"{sweep}-")  # an earlier version's
        return self.comment not in ("", "(null)", "N/A") or named


# What a user's shell may choose for all jobs, who pays and where they run, and the profile's words for it.
CHOSEN = {
    "SBATCH_ACCOUNT": "account", "SBATCH_PARTITION": "partition", "SBATCH_QOS": "qos",
    "SBATCH_RESERVATION": "reservation", "SBATCH_CONSTRAINT": "constraint",
}  # fmt: skip
_conf = ""  # what `use` has set


def use(p: ProfileSettings) -> None:
    """Let Slurm's commands find the profile's cluster; what the user has set comes first.

    Unreachable if it is not there.
    """
    global _conf
    if os.environ.get(CONF, "") != _conf:
        return
    if p.conf and not Path(p.conf).exists():
        raise Unreachable(
            f"there is no {p.conf}: start the Slurm that the profile means (the testbed: slurm/testbed up)"
        )
    _conf = p.conf
    if p.conf:
        os.environ[CONF] = p.conf
    else:
        os.environ.pop(CONF, None)


def adopt(p: ProfileSettings) -> None:
    """Take from the shell what the profile leaves open; sbatch itself would let the shell win over it.

    Other SBATCH_ variables are not heeded: profile.extra sets any option of sbatch.
    """
    for variable, name in CHOSEN.items():
        setattr(p, name, getattr(p, name) or os.environ.get(variable, ""))


def client(*words: str) -> str:
    """What one of Slurm's commands prints. Raises Unreachable if there is none, or it does not answer."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=TIMEOUT, env=for_jobs(os.environ)
        )
    except FileNotFoundError as e:
        raise Unreachable(f"there is no {words[0]} here: run this where Slurm's commands are") from e
    except subprocess.TimeoutExpired as e:
        raise Unreachable(f"Slurm does not answer: {words[0]} took over {TIMEOUT:.0f} s; try later") from e
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        error = said[-1].removeprefix(f"{words[0]}: ")
        raise Unreachable(f"{words[0]} failed: {error}; is the cluster up (`sinfo`)?")
    return done.stdout


def queue(run: Path) -> dict[str, Queued]:
    """The jobs of the sweep in this folder that have not ended, by id; one squeue call."""
    text = client("squeue", "--me", "--noheader", "--array", "--Format", ",".join(f"{f}:|" for f in FIELDS))
    rows = (line.strip().removesuffix("|").split("|", len(FIELDS) - 1) for line in text.splitlines())
    jobs = (
        Queued(r[0], r[1], r[2], r[3], int(r[4]) if r[4].isdecimal() else 0, *r[5:])
        for r in rows
        if len(r) == len(FIELDS)  # what else a site's squeue prints is no job
    )
    return {job.id: job for job in jobs if job.of(run)}


def ended(ids: Iterable[str]) -> dict[str, str]:
    """How jobs ended, such as TIMEOUT, by id: one sacct call. Empty where the cluster keeps no accounts."""
    bases = {i: i.partition("_")[0] for i in ids}
    if not bases:
        return {}
    wanted = ",".join(dict.fromkeys(bases.values()))  # thousands of elements would not fit into a command
    try:
        text = client("sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={wanted}")
    except SkinGanError:
        return {}  # many clusters have no sacct: the records and logs on disk tell as much
    rows = (line.split("|") for line in text.splitlines() if "|" in line)
    # Elements of an array that never started have one row together, 12_[3-9].
    states = {row[0].partition("_[")[0]: row[1].split()[0] for row in rows}
    return {i: states.get(i) or states.get(base, "") for i, base in bases.items()}


def cancel(ids: Iterable[str]) -> None:
    _each("scancel", ids)


def hold(ids: Iterable[str]) -> None:
    _each("scontrol hold", ids)


def release(ids: Iterable[str]) -> None:
    _each("scontrol release", ids)


def _each(command: str, ids: Iterable[str]) -> None:
    if ids := list(ids):
        client(*command.split(), *ids)


@cache
def max_array() -> int | None:
    """Elements that the cluster allows in one array, or None where it does not say."""
    size = _fields(client("scontrol", "show", "config")).get("MaxArraySize")
    return int(size) - 1 if size else None  # the highest index is one less than the size


def check_limits(p: ProfileSettings) -> None:
    """SkinGanError if there is no such partition, it takes no job of such length, or there are no arrays."""
    text = client("scontrol", "--all", "--oneliner", "show", "partition")
    rows = [dict(word.partition("=")[::2] for word in line.split()) for line in text.splitlines()]
    default = [row["PartitionName"] for row in rows if row["Default"] == "YES"]
    wanted = p.partition.split(",") if p.partition else default
    limits = {r["PartitionName"]: r["MaxTime"] for r in rows}
    if unknown := [name for name in wanted if name not in limits]:
        raise SkinGanError(f"profile.partition={unknown[0]}: this cluster has {', '.join(limits)}")
    allowed = [seconds(limits[name]) for name in wanted]
    # A quality of service may allow more than the partition.
    if allowed and not p.qos and max(allowed) < p.minutes * 60:
        raise SkinGanError(
            f"profile.minutes={p.minutes}: partition {p.partition or wanted[0]} allows at most "
            f"{max(allowed) // 60:.0f} (MaxTime); a search that needs longer is requeued and goes on"
        )
    if (size := max_array()) is not None and size < 1:
        raise SkinGanError("this cluster allows no job arrays (MaxArraySize): ask its administrators")


def seconds(limit: str) -> float:
    """A time in Slurm's words, such as UNLIMITED or 2-12:00:00 (days, hours, minutes, seconds)."""
    days, _, clock = limit.rpartition("-")
    if not clock[:1].isdigit():
        return math.inf
    total = 0.0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return total + 86400 * int(days or 0)


def _fields(text: str) -> dict[str, str]:
    """`name = value` lines."""
    return {
        name.strip(): value.strip() for name, _, value in (line.partition("=") for line in text.splitlines())
    }


def warnings(e: Experiment) -> list[str]:
    """What can be seen from here that jobs may stumble over."""
    found, kinds = [], {what: filesystem(path) for what, path in places(e).items()}
    if unseen := [f"{what} ({kind})" for what, kind in kinds.items() if kind in LOCAL_FILESYSTEMS]:
        found.append(f"on a disk of this machine, which every node must see: {', '.join(unseen)}")
    if e.profile.minutes <= 10:
        found.append("with profile.minutes of 10 or less, each preemption counts as one of profile.requeues")
    return found


def places(e: Experiment) -> dict[str, Path]:
    """What jobs read or write, links resolved, by what to call it; of the code they have a copy there."""
    python = e.profile.python.split() or [sys.executable]
    # Not what the last link leads to: of an environment's Python that is the system's, which each node has.
    files = [Path(word).parent.resolve() / Path(word).name for word in python if word.startswith("/")]
    found = {f"results={e.results}": Path(e.results).resolve()}
    found |= {f"Python: {file}": file for file in files if not file.is_relative_to("/usr")}
    if e.data not in ("auto", "demo"):  # those are among the results
        found[f"data={e.data}"] = Path(e.data).expanduser().resolve()
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
