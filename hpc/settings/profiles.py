"""What a machine or a cluster is: the schema of slurm/*.yaml. Never changes a result. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from skin_gan.errors import SkinGanError


@dataclass
class ProfileSettings:
    """A machine or a cluster: slurm/NAME.yaml. Never part of an identity.

    Of Slurm's options, those that are empty or 0 are left to the cluster's defaults; account, partition, qos,
    reservation and constraint first to the SBATCH_ variable of the shell that launches.
    """

    kind: Literal["local", "slurm"] = "local"
    slots: int = 0  # trials at a time here or on each node of a job; 0: one per GPU, or per `threads` cores
    gpus_per_node: int = 0  # GPUs that the slots share; 0 trains on CPUs
    images_per_second: float = 0.0  # assumed per slot for the cost estimate until something is measured
    results: str = ""  # where results go unless results= says so; all nodes of a cluster must see it
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    devices_per_trial: int = 1  # GPUs, or groups of operations.threads cores, that train a trial together
    nodes: int = 1  # of a class's search by Ray, of each trial with backend=array, of a final training
    cpus_per_task: int = 1  # CPU cores per node
    mem: str = ""  # per node, such as 16G
    minutes: int = 24 * 60  # time limit of a job; a search that needs longer is requeued and goes on
    parallel: int = 16  # jobs of one stage at a time
    max_array: int = 1000  # elements of one job array; more go into further arrays
    signal_delay: int = 120  # seconds before the limit at which a job is told to stop and requeue itself
    requeues: int = 100  # how often one job may reach its time limit
    setup: list[str] = field(default_factory=list)  # shell lines before Python starts: modules, environment
    python: str = ""  # the command that starts Python on a node, for containers; default: this very one
    scratch: str = ""  # a folder on each node's own disk to read the data from; environment variables count
    extra: dict[str, str | bool | None] = field(
        default_factory=dict
    )  # other sbatch options: {exclusive: true}
    conf: str = ""  # slurm.conf, where Slurm's commands do not find it themselves


# What a profile of kind local may set; all else is for Slurm.
HERE = (
    "kind", "slots", "gpus_per_node", "images_per_second", "results", "devices_per_trial", "nodes", "scratch",
)  # fmt: skip
MEMORY = re.compile(r"(\d+)(?:([KMGT])B?)?", re.IGNORECASE)  # as sbatch takes it; without a unit megabytes
OPTION = re.compile("[a-z][a-z0-9_]+")  # the long name of an option of sbatch
# Options that make the chain of jobs what it is, and what to use instead.
CHAIN = {
    "array": "profile.parallel and profile.max_array", "dependency": "begin, or launch later",
    "signal": "profile.signal_delay", "time": "profile.minutes", "nodes": "profile.nodes",
    "ntasks": "profile.devices_per_trial", "ntasks_per_node": "profile.devices_per_trial",
    "output": "results", "error": "results", "open_mode": "results",
    "requeue": "profile.requeues", "no_requeue": "profile.requeues",
}  # fmt: skip


def check_profile(p: ProfileSettings) -> None:
    """Raise one SkinGanError if a value of the profile is out of range, or does not go with another."""
    least = {"slots": 0, "gpus_per_node": 0, "images_per_second": 0, "devices_per_trial": 1, "nodes": 1,
             "cpus_per_task": 1, "minutes": 1, "parallel": 1, "max_array": 1, "signal_delay": 1,
             "requeues": 0}  # fmt: skip
    for name, low in least.items():
        if not low <= getattr(p, name) < float("inf"):
            raise SkinGanError(f"profile.{name}={getattr(p, name)}: expected at least {low}")
    if p.kind == "local":
        check_local(p)
    if p.kind == "slurm" and p.signal_delay >= p.minutes * 60:
        raise SkinGanError(
            f"profile.signal_delay={p.signal_delay}: expected fewer seconds than profile.minutes={p.minutes}"
        )
    if p.mem and not MEMORY.fullmatch(p.mem):
        raise SkinGanError(f"profile.mem={p.mem}: expected a whole number with K, M, G or T, such as 16G")
    check_devices(p)
    extra_options(p)


def check_local(p: ProfileSettings) -> None:
    """SkinGanError for what only Slurm would heed: its profile has a kind of its own."""
    default = ProfileSettings()
    for name, value in vars(p).items():
        if name not in HERE and value != getattr(default, name):
            raise SkinGanError(
                f"profile.{name}={value} is for Slurm, and the profile is of kind local, this machine: write "
                "`kind: slurm` into it, or choose a cluster by cluster=NAME"
            )


def check_devices(p: ProfileSettings) -> None:
    """SkinGanError if the slots cannot share the GPUs: Ray gives a trial whole ones, or a part of one."""
    gpus, together = p.gpus_per_node, p.devices_per_trial
    if not gpus:
        return
    if together > 1 and max(p.slots, 1) * together > gpus:
        raise SkinGanError(
            f"profile.devices_per_trial={together} with slots={p.slots}: profile.gpus_per_node={gpus} "
            "are too few; expected at least slots * devices_per_trial"
        )
    if p.slots and gpus % p.slots and p.slots % gpus:
        possible = ", ".join(str(n) for n in range(1, gpus + 1) if not gpus % n)
        raise SkinGanError(
            f"profile.slots={p.slots} cannot share profile.gpus_per_node={gpus} equally: expected "
            f"{possible}, or a multiple of {gpus}"
        )


def extra_options(p: ProfileSettings) -> dict[str, Any]:
    """The further sbatch options, spelled as Submitit does. Those that are false or null are left out.

    Raises SkinGanError for what is no option, or is one of those that hold the chain of jobs together.
    """
    found = {}
    for key, value in p.extra.items():
        name = key.replace("-", "_")
        if not OPTION.fullmatch(name) or isinstance(value, (list, dict)):
            raise SkinGanError(
                f"profile.extra.{key}={value}: expected the long name of an sbatch option, without dashes "
                "before it, and one value, such as {exclude: node13} or {exclusive: true}"
            )
        if name in CHAIN:
            raise SkinGanError(
                f"profile.extra.{key} would break the chain of jobs: use {CHAIN[name]} instead"
            )
        if value is not None and value is not False:
            found[name] = value
    return found
