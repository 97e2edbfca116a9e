"""Removes environment variables that jobs must not inherit from the shell that launches them. No torch.

A launch may run in a login shell, a Slurm job or interactive allocation, under mpirun or torchrun, or in a
Kubernetes pod. Its jobs run as if from a clean login shell in all cases.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

# Variables that make a process one of several ranks: of torchrun, Accelerate, MPIs and their launchers.
RANK_VARIABLES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK",
    "ROLE_RANK", "ROLE_NAME", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
RANK_PREFIXES = (
    "TORCHELASTIC_", "PET_", "ACCELERATE_", "FSDP_", "PMI_", "PMIX_", "MPI_LOCAL", "MPIEXEC_", "HYDRA_",
    "OMPI_", "I_MPI_", "MV2_", "PALS_", "JSM_NAMESPACE_",
)  # fmt: skip
# Variables of a Slurm job around the launch, and options of Slurm's commands, which may hide jobs in squeue.
SLURM_PREFIXES = (
    "SLURM_", "SLURMD_", "SLURMSTEPD_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_",
    "SCONTROL_", "SUBMITIT_",
)  # fmt: skip
# Slurm's address and credentials, which jobs keep.
SLURM_ADDRESS = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
# Devices of the job around the launch: a job on another node has its own.
DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


def without_rank_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that make a process one of several ranks."""
    return {k: v for k, v in variables.items() if k not in RANK_VARIABLES and not k.startswith(RANK_PREFIXES)}


def for_jobs(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of a launch that its jobs and Slurm's commands may see."""
    kept = without_rank_variables(variables)
    return {k: v for k, v in kept.items() if k in SLURM_ADDRESS or not k.startswith(SLURM_PREFIXES)}


@contextmanager
def clean_environment(without: Sequence[str] = (), **more: str) -> Iterator[None]:
    """Give processes that are started in the block only the variables of `for_jobs`.

    `without`: names of further variables to remove; `more`: variables to add.
    """
    before = dict(os.environ)
    replace_variables({k: v for k, v in for_jobs(before).items() if k not in without} | more)
    try:
        yield
    finally:
        replace_variables(before)


def replace_variables(wanted: Mapping[str, str]) -> None:
    """Replace all environment variables of this process by `wanted`."""
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
