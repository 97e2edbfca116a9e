"""What a job must not inherit from the shell that launched it, nor one of its processes from the job.

A launch may come from a login shell, from inside a Slurm job or an interactive allocation, from a process of
mpirun or torchrun, or from a pod of Kubernetes. Its jobs run as from a clean login shell all the same.
No torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

# By which processes know that they train together: torchrun, Accelerate, the MPIs and their launchers.
OF_A_GROUP = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK",
    "ROLE_RANK", "ROLE_NAME", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
OF_A_GROUP_PREFIXES = (
    "TORCHELASTIC_", "PET_", "ACCELERATE_", "FSDP_", "PMI_", "PMIX_", "MPI_LOCAL", "MPIEXEC_", "HYDRA_",
    "OMPI_", "I_MPI_", "MV2_", "PALS_", "JSM_NAMESPACE_",
)  # fmt: skip
# Of Slurm's job around the launch, and options of Slurm's clients: squeue would show some of the jobs only.
OF_SLURM = (
    "SLURM_", "SLURMD_", "SLURMSTEPD_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_",
    "SCONTROL_", "SUBMITIT_",
)  # fmt: skip
# Where Slurm is, and as whom one speaks to it.
WHERE_SLURM_IS = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
# The devices of the job around the launch: on another node a job has others.
DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


def alone(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that make a process one of several."""
    return {
        k: v for k, v in variables.items() if k not in OF_A_GROUP and not k.startswith(OF_A_GROUP_PREFIXES)
    }


def for_jobs(variables: Mapping[str, str]) -> dict[str, str]:
    """Of a launch's variables, those that its jobs, and Slurm's clients, may see."""
    kept = alone(variables)
    return {k: v for k, v in kept.items() if k in WHERE_SLURM_IS or not k.startswith(OF_SLURM)}


@contextmanager
def clean(without: Sequence[str] = (), **more: str) -> Iterator[None]:
    """What is started in the block gets the variables of `for_jobs`; afterwards they are what they were.

    `without`: names of others to leave out; `more`: variables to add.
    """
    before = dict(os.environ)
    replace_variables({k: v for k, v in for_jobs(before).items() if k not in without} | more)
    try:
        yield
    finally:
        replace_variables(before)


def replace_variables(wanted: Mapping[str, str]) -> None:
    """Make `wanted` the variables of this process."""
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
