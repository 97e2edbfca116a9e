"""What a machine or a cluster is: the schema of slurm/*.yaml. Never changes a result. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from skin_gan.errors import SkinGanError


@dataclass
class ProfileSettings:
    """A machine or a cluster: slurm/NAME.yaml. Never part of an identity.

    Of Slurm's options, those that are empty or 0 are left to the cluster's defaults.
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
    extra: dict[str, Any] = field(default_factory=dict)  # further sbatch options, such as {exclusive: true}
    conf: str = ""  # slurm.conf, where Slurm's commands do not find it themselves


def check_profile(p: ProfileSettings) -> None:
    """Raise one SkinGanError if a value of the profile is out of range."""
    least = {"slots": 0, "gpus_per_node": 0, "devices_per_trial": 1, "nodes": 1, "cpus_per_task": 1,
             "minutes": 1, "parallel": 1, "max_array": 1, "signal_delay": 1, "requeues": 0}  # fmt: skip
    for name, low in least.items():
        if getattr(p, name) < low:
            raise SkinGanError(f"profile.{name}={getattr(p, name)}: expected at least {low}")
    if p.kind == "slurm" and p.signal_delay >= p.minutes * 60:
        raise SkinGanError(
            f"profile.signal_delay={p.signal_delay}: expected fewer seconds than profile.minutes={p.minutes}"
        )
