"""The settings of a machine or a cluster, as in slurm/*.yaml. They never change a result. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from skin_gan.errors import SkinGanError
from skin_gan.ranges import setting

GRES = re.compile(r"(\w+(?::[\w.+-]+)?):(\d+)")  # name or name:type, and how many per node
MEMORY = re.compile(r"(\d+)(?:([KMGT])B?)?", re.IGNORECASE)  # sbatch's format; the default unit is megabytes


@dataclass
class ProfileSettings:
    """A machine or a cluster: slurm/NAME.yaml. Never part of an identity.

    Options of Slurm that are empty or 0 have the cluster's defaults. Account, partition, qos, reservation and
    constraint default to the SBATCH_ variables of the shell that launches.
    """

    kind: Literal["local", "slurm"] = setting("local", "this machine, or a cluster")
    slots: int = setting(
        0,
        "trials at a time here or on each node of a job; 0: one per GPU, or per operations.threads cores",
        unit="trials", least=0,
    )  # fmt: skip
    gpus_per_node: int = setting(0, "GPUs that the slots share; 0 trains on CPUs", unit="GPUs", least=0)
    gres: str = setting(
        "", "what Slurm is asked for in place of a number of GPUs: a type, MIG slices, a share by MPS",
        form="NAME:COUNT or NAME:TYPE:COUNT, such as gpu:a100:1, gpu:1g.10gb:1, mps:50 or shard:1",
        rule=lambda gres: not gres or bool(GRES.fullmatch(gres)),
    )  # fmt: skip
    images_per_second: float = setting(
        0.0, "assumed speed of a slot, for the cost estimate, until one is measured", unit="images/s", least=0
    )
    results: str = setting("", "where results go unless results= says so; all nodes of a cluster must see it")
    partition: str = setting("", "Slurm's partition")
    cpu_partition: str = setting(
        "",
        "Slurm's partition of jobs without GPU: select, generate, heads, report; empty: the same",
    )
    account: str = setting("", "Slurm's account")
    qos: str = setting("", "Slurm's quality of service")
    constraint: str = setting("", "features that a node has to have")
    reservation: str = setting("", "Slurm's reservation")
    devices_per_trial: int = setting(
        1, "GPUs, or groups of operations.threads cores, that train a trial together", least=1
    )
    nodes: int = setting(
        1, "of a class's search by Ray, of each trial with backend=array, of a final training",
        unit="nodes", least=1,
    )  # fmt: skip
    cpus_per_task: int = setting(1, "CPU cores per node", unit="cores", least=1)
    mem: str = setting(
        "", "memory per node", form="a whole number with K, M, G or T, such as 16G",
        rule=lambda mem: not mem or bool(MEMORY.fullmatch(mem)),
    )  # fmt: skip
    minutes: int = setting(
        24 * 60, "time limit of a job; a search that needs longer is requeued and goes on",
        unit="minutes", least=1,
    )  # fmt: skip
    parallel: int = setting(16, "jobs of one stage at a time", unit="jobs", least=1)
    max_array: int = setting(
        1000, "elements of one job array; more go into further arrays", unit="jobs", least=1
    )
    signal_delay: int = setting(
        120, "how long before its limit a job is told to stop and to requeue itself", unit="seconds", least=1
    )
    requeues: int = setting(100, "how often a job may reach its time limit", least=0)
    setup: list[str] = setting([], "shell lines before Python starts: modules, environment")
    python: str = setting("", "command that starts Python on a node, for containers; empty: this Python")
    scratch: str = setting(
        "", "folder on each node's own disk to read the data from; environment variables are expanded"
    )
    extra: dict[str, str | bool | None] = setting({}, "other options of sbatch, such as {exclusive: true}")
    conf: str = setting("", "path of slurm.conf, if Slurm's commands do not find it themselves")


# The settings that a profile of kind local may have; all others are for Slurm.
HERE = (
    "kind", "slots", "gpus_per_node", "images_per_second", "results", "devices_per_trial", "nodes", "scratch",
)  # fmt: skip
OPTION = re.compile("[a-z][a-z0-9_]+")  # the long name of an option of sbatch
# Options of sbatch that would break the chain of jobs, or contradict it, and what to use instead.
CHAIN = {
    "array": "profile.parallel and profile.max_array", "dependency": "begin, or launch later",
    "signal": "profile.signal_delay", "time": "profile.minutes", "nodes": "profile.nodes",
    "ntasks": "profile.devices_per_trial", "ntasks_per_node": "profile.devices_per_trial",
    "output": "results", "error": "results", "open_mode": "results",
    "requeue": "profile.requeues", "no_requeue": "profile.requeues", "gres": "profile.gres",
}  # fmt: skip


def check_profile(p: ProfileSettings) -> None:
    """SkinGanError if values of the profile do not fit together."""
    if p.kind == "local":
        check_local(p)
    if p.kind == "slurm" and p.signal_delay >= p.minutes * 60:
        raise SkinGanError(
            f"profile.signal_delay={p.signal_delay}: expected fewer seconds than profile.minutes={p.minutes}"
        )
    check_devices(p)
    check_gres(p)
    extra_options(p)


def check_local(p: ProfileSettings) -> None:
    """SkinGanError for a setting of a local profile that only has a meaning for Slurm."""
    default = ProfileSettings()
    for name, value in vars(p).items():
        if name not in HERE and value != getattr(default, name):
            raise SkinGanError(
                f"profile.{name}={value} is for Slurm, and the profile is of kind local, this machine: set "
                "`kind: slurm` in it, or choose a cluster by cluster=NAME"
            )


def check_devices(p: ProfileSettings) -> None:
    """SkinGanError if the slots cannot share the GPUs: Ray gives a trial whole GPUs, or a fraction of one."""
    gpus, together = p.gpus_per_node, p.devices_per_trial
    if not gpus:
        return
    if together > 1 and max(p.slots, 1) * together > gpus:
        raise SkinGanError(
            f"profile.devices_per_trial={together} with slots={p.slots}: profile.gpus_per_node={gpus} "
            "is too few; expected at least slots * devices_per_trial"
        )
    if p.slots and gpus % p.slots and p.slots % gpus:
        possible = ", ".join(str(n) for n in range(1, gpus + 1) if not gpus % n)
        raise SkinGanError(
            f"profile.slots={p.slots} cannot share profile.gpus_per_node={gpus} equally: expected "
            f"{possible}, or a multiple of {gpus}"
        )


def check_gres(p: ProfileSettings) -> None:
    """SkinGanError if profile.gres does not fit the number of GPUs that the slots share."""
    if p.gres and not p.gpus_per_node:
        raise SkinGanError(
            f"profile.gres={p.gres} with profile.gpus_per_node=0: expected the number of GPUs that a job "
            "sees, such as profile.gpus_per_node=1"
        )
    count = int(p.gres.rpartition(":")[2]) if p.gres.startswith("gpu:") else p.gpus_per_node
    if count != p.gpus_per_node:
        raise SkinGanError(
            f"profile.gres={p.gres} asks for {count} where profile.gpus_per_node={p.gpus_per_node}: expected "
            "the same number in both"
        )


def extra_options(p: ProfileSettings) -> dict[str, Any]:
    """The options in profile.extra under Submitit's names; false and null ones are left out.

    Raises SkinGanError for an invalid option, and for one that would break the chain of jobs.
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
