"""Calls squeue, sacct, scancel and scontrol: one call for all jobs, with a time limit."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hpc.settings.compose import Experiment
from hpc.settings.profiles import ProfileSettings
from hpc.state.environment import for_jobs
from skin_gan.errors import SkinGanError

TIMEOUT = 20.0  # seconds; Slurm's commands retry a broken daemon for minutes
CONF = "SLURM_CONF"
FIELDS = ("JobArrayID", "State", "Reason", "TimeLeft", "RestartCnt", "NodeList", "Name", "Comment")
LOCAL_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay")
PENDING, RUNNING, COMPLETING = "PENDING", "RUNNING", "COMPLETING"


class Unreachable(SkinGanError):
    """Slurm is not installed here, or does not answer."""


@dataclass(frozen=True)
class Queued:
    """A job in Slurm's queue."""

    id: str  # 12, or 12_3 for an element of an array
    state: str
    reason: str  # why it is pending
    left: str  # time until its limit
    restarts: int
    nodes: str
    name: str  # STAGE-SWEEP, or the name that the profile sets
    comment: str  # the sweep's folder, or the comment that the profile sets; a site may remove it

    def belongs_to(self, run: Path) -> bool:
        """Whether this is a job of the sweep. Ids do not tell: another or a reset cluster reuses them."""
        if self.comment.startswith("/"):
            folder = Path(self.comment)  # hosts may mount the results in different places
            return folder.parts[-2:] == run.parts[-2:] or folder.resolve() == run.resolve()
        sweep = run.parent.name
        named = self.name.endswith(f"-{sweep}") or self.name.startswith(f"{sweep}-")  # of an earlier version
        return self.comment not in ("", "(null)", "N/A") or named


# Variables by which a user's shell sets account and placement of all jobs, and the profile's names for them.
FROM_SHELL = {
    "SBATCH_ACCOUNT": "account", "SBATCH_PARTITION": "partition", "SBATCH_QOS": "qos",
    "SBATCH_RESERVATION": "reservation", "SBATCH_CONSTRAINT": "constraint",
}  # fmt: skip
_conf = ""  # the value of SLURM_CONF that `use` has set


def use(p: ProfileSettings) -> None:
    """Point Slurm's commands at the profile's cluster, unless the user has set SLURM_CONF.

    Raises Unreachable if the profile's slurm.conf does not exist.
    """
    global _conf
    if os.environ.get(CONF, "") != _conf:
        return
    if p.conf and not Path(p.conf).exists():
        raise Unreachable(
            f"{p.conf} does not exist: start the profile's Slurm (the testbed: slurm/testbed up)"
        )
    _conf = p.conf
    if p.conf:
        os.environ[CONF] = p.conf
    else:
        os.environ.pop(CONF, None)


def adopt(p: ProfileSettings) -> None:
    """Fill the profile's empty options from the shell. (sbatch itself would prefer the shell's values.)

    Other SBATCH_ variables are ignored: profile.extra sets any option of sbatch.
    """
    for variable, name in FROM_SHELL.items():
        setattr(p, name, getattr(p, name) or os.environ.get(variable, ""))


def client(*words: str) -> str:
    """Run one of Slurm's commands and return its output. Raises Unreachable if it is missing or fails."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=TIMEOUT, env=for_jobs(os.environ)
        )
    except FileNotFoundError as e:
        raise Unreachable(f"there is no {words[0]} here: run this where Slurm is installed") from e
    except subprocess.TimeoutExpired as e:
        raise Unreachable(f"Slurm does not answer: {words[0]} took over {TIMEOUT:.0f} s; try later") from e
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        error = lines[-1].removeprefix(f"{words[0]}: ")
        raise Unreachable(f"{words[0]} failed: {error}; is the cluster up (`sinfo`)?")
    return done.stdout


def queue(run: Path) -> dict[str, Queued]:
    """The queued and running jobs of the sweep in this folder, by id; one squeue call."""
    text = client("squeue", "--me", "--noheader", "--array", "--Format", ",".join(f"{f}:|" for f in FIELDS))
    rows = (line.strip().removesuffix("|").split("|", len(FIELDS) - 1) for line in text.splitlines())
    jobs = (
        Queued(r[0], r[1], r[2], r[3], int(r[4]) if r[4].isdecimal() else 0, *r[5:])
        for r in rows
        if len(r) == len(FIELDS)  # skips other lines that a site's squeue prints
    )
    return {job.id: job for job in jobs if job.belongs_to(run)}


def ended(ids: Iterable[str]) -> dict[str, str]:
    """Final states such as TIMEOUT by job id; one sacct call. Empty if the cluster has no accounting."""
    bases = {i: i.partition("_")[0] for i in ids}
    if not bases:
        return {}
    wanted = ",".join(dict.fromkeys(bases.values()))  # whole arrays: a command has no room for all elements
    try:
        text = client("sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={wanted}")
    except SkinGanError:
        return {}  # many clusters have no sacct: job records and logs serve instead
    rows = (line.split("|") for line in text.splitlines() if "|" in line)
    # Elements of an array that never started share one row, 12_[3-9].
    states = {row[0].partition("_[")[0]: row[1].split()[0] for row in rows}
    return {i: states.get(i) or states.get(base, "") for i, base in bases.items()}


def control(command: str, ids: Iterable[str]) -> None:
    """Run a command such as "scontrol hold" on all these jobs; does nothing without any."""
    if ids := list(ids):
        client(*command.split(), *ids)


@cache
def max_array() -> int | None:
    """The most elements that the cluster allows in one array; None if its configuration does not say."""
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)", client("scontrol", "show", "config"), re.MULTILINE)
    return int(size[1]) - 1 if size else None  # the highest index is one less than the size


def check_limits(p: ProfileSettings) -> None:
    """SkinGanError if a partition is unknown, lacks the GPUs or allows too little time, or without arrays."""
    text = client("scontrol", "--all", "--oneliner", "show", "partition")
    rows = [dict(word.partition("=")[::2] for word in line.split()) for line in text.splitlines()]
    default = [row["PartitionName"] for row in rows if row["Default"] == "YES"]
    wanted = p.partition.split(",") if p.partition else default
    limits = {r["PartitionName"]: r["MaxTime"] for r in rows}
    if unknown := [name for name in wanted if name not in limits]:
        raise SkinGanError(f"profile.partition={unknown[0]}: this cluster has {', '.join(limits)}")
    if p.cpu_partition and (unknown := [name for name in p.cpu_partition.split(",") if name not in limits]):
        raise SkinGanError(f"profile.cpu_partition={unknown[0]}: this cluster has {', '.join(limits)}")
    check_gpus(p, wanted)
    allowed = [seconds(limits[name]) for name in wanted]
    # A quality of service may allow more than the partition.
    if allowed and not p.qos and max(allowed) < p.minutes * 60:
        raise SkinGanError(
            f"profile.minutes={p.minutes}: partition {p.partition or wanted[0]} allows at most "
            f"{max(allowed) // 60:.0f} (MaxTime); a search that needs longer is requeued and goes on"
        )
    if (size := max_array()) is not None and size < 1:
        raise SkinGanError("this cluster allows no job arrays (MaxArraySize): ask its administrators")


def check_gpus(p: ProfileSettings, wanted: list[str]) -> None:
    """SkinGanError if the nodes of none of these partitions have what the profile asks for."""
    if not p.gpus_per_node:
        return
    try:
        text = client("sinfo", "--noheader", "--all", "--format=%R|%G")
    except Unreachable:
        return  # some sites hide it; sbatch has the last word
    there: dict[str, set[str]] = {}
    for line in text.splitlines():
        partition, _, gres = line.strip().partition("|")
        # Such as gpu:a100:4(S:0-1),mps:400; without its count and sockets: gpu:a100, mps
        kinds = (re.sub(r"(:\d+[KMG]?)?(\(.*)?$", "", word) for word in re.split(r",(?![^(]*\))", gres))
        there.setdefault(partition, set()).update(k for k in kinds if k and not k.startswith("(null"))
    asked = p.gres.rpartition(":")[0] if p.gres else "gpu"
    fits = {
        name for name, kinds in there.items() if any(k == asked or k.startswith(f"{asked}:") for k in kinds)
    }
    if wanted and there and not fits & set(wanted):
        choices = ", ".join(f"{name} ({', '.join(sorted(kinds))})" for name, kinds in there.items() if kinds)
        setting = f"gres={p.gres}" if p.gres else f"gpus_per_node={p.gpus_per_node}"
        choose = f"choose of {choices}" if choices else "no partition has any"
        raise SkinGanError(
            f"profile.partition={','.join(wanted)} has no {asked}, which profile.{setting} asks for: "
            f"{choose}, or set profile.gpus_per_node=0"
        )


def seconds(limit: str) -> float:
    """Seconds of a time limit as Slurm prints it, such as UNLIMITED or 2-12:00:00 (days-h:m:s)."""
    days, _, clock = limit.rpartition("-")
    if not clock[:1].isdigit():
        return math.inf
    total = 0.0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return total + 86400 * int(days or 0)


def warnings(e: Experiment) -> list[str]:
    """Warnings about settings and paths that may break jobs on other nodes."""
    found, kinds = [], {what: filesystem(path) for what, path in paths_of_jobs(e).items()}
    if unseen := [f"{what} ({kind})" for what, kind in kinds.items() if kind in LOCAL_FILESYSTEMS]:
        found.append(f"on a disk of this machine, which every node must see: {', '.join(unseen)}")
    if e.profile.minutes <= 10:
        found.append("with profile.minutes of 10 or less, each preemption counts as one of profile.requeues")
    return found


def paths_of_jobs(e: Experiment) -> dict[str, Path]:
    """The paths that jobs read or write, links resolved, by name. The code is copied into the results."""
    python = e.profile.python.split() or [sys.executable]
    # The last link stays unresolved: an environment's Python links to the system's, which each node has.
    files = [Path(word).parent.resolve() / Path(word).name for word in python if word.startswith("/")]
    found = {f"results={e.results}": Path(e.results).resolve()}
    found |= {f"Python: {file}": file for file in files if not file.is_relative_to("/usr")}
    if e.data not in ("auto", "demo"):  # those are among the results
        found[f"data={e.data}"] = Path(e.data).expanduser().resolve()
    if e.ablate.external:
        found[f"ablate.external={e.ablate.external}"] = Path(e.ablate.external).resolve()
    return found


def filesystem(path: Path) -> str:
    """The type of the file system that holds the path, such as nfs4; "" if the system does not tell."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    folders = [str(path), *map(str, path.parents)]
    types = {mount[1]: mount[2] for mount in mounts}
    return next((types[folder] for folder in folders if folder in types), "")
