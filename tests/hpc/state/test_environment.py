"""Where a launch comes from does not reach its jobs: other launchers' variables, Slurm's, and CPU quotas."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from environment_probe import Probe
from places import SUPPORT
from plans import plan_of

from hpc.cluster import executor
from hpc.plan import sweep_plan
from hpc.plan.sweep_plan import PREPARE
from hpc.settings.profiles import ProfileSettings
from hpc.slurm import client
from hpc.state.environment import DEVICES, clean_environment, for_jobs, without_rank_variables
from skin_gan import cores as cores_module
from skin_gan.cores import cores
from skin_gan.data import ingest

# As each launcher sets them for the second of two processes.
LAUNCHERS = {
    "torchrun": {
        "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
        "ROLE_RANK": "1", "ROLE_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29501",
        "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True",
    },
    "kubernetes": {
        "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456",
        "PET_NNODES": "2", "PET_NODE_RANK": "1",
    },
    "accelerate": {"ACCELERATE_MIXED_PRECISION": "fp16", "ACCELERATE_USE_FSDP": "true"},
    "mpich": {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "1"},
    "openmpi": {
        "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun",
    },
    "mvapich": {"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_LOCAL_RANK": "1"},
    "salloc": {
        "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_MEM_PER_CPU": "200", "SLURM_GPUS": "1",
        "SLURM_GPUS_PER_NODE": "2", "SLURM_EXPORT_ENV": "NONE", "SLURM_PROCID": "1", "SLURMD_NODENAME": "n1",
        "SBATCH_MEM_PER_GPU": "1G", "SRUN_DEBUG": "3", "SUBMITIT_EXECUTOR": "slurm",
    },
}  # fmt: skip
OWN = {"HOME": "/root", "MY_DISK": "/scratch", "OMP_NUM_THREADS": "1", "NCCL_SOCKET_IFNAME": "eth0"}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_jobs_are_not_told_of_the_launcher_around_the_launch(launcher):
    assert for_jobs(OWN | LAUNCHERS[launcher]) == OWN


def test_where_slurm_is_stays_and_a_jobs_own_slurm_stays_for_its_processes():
    where = {"SLURM_CONF": "/etc/mine.conf", "SLURM_CLUSTERS": "b"}
    assert for_jobs(where | {"SQUEUE_STATES": "RUNNING"}) == where
    job = where | {"SLURM_JOB_ID": "7"}
    assert without_rank_variables(job | LAUNCHERS["mpich"]) == job


def test_a_job_on_this_machine_is_one_process_whatever_started_the_launch(tmp_path, monkeypatch):
    """Its process says what Accelerate and its record see."""
    around = {name: value for variables in LAUNCHERS.values() for name, value in variables.items()}
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{os.environ.get('PYTHONPATH', '')}")
    said = tmp_path / "said"
    monkeypatch.setattr(executor, "RankedTask", lambda *_: Probe(str(said)))
    plan = plan_of(tmp_path / "results", "cluster=local")
    executor.submit_local(plan, plan.stages[0].jobs[0], 1).wait()
    assert said.read_text() == "1 process, rank 0, Slurm's job ''"
    assert around.items() <= os.environ.items()  # of this process nothing was changed


def test_ranks_that_srun_announces_do_not_reach_a_task_of_one_process(tmp_path, monkeypatch):
    """A site's MPI plugin gives PMI_* to every step."""
    for name, value in {"SUBMITIT_EXECUTOR": "local", **LAUNCHERS["mpich"], **LAUNCHERS["openmpi"]}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SUBMITIT_LOCAL_NTASKS", "1")
    seen = {}
    monkeypatch.setattr("hpc.jobs.task.Task.__call__", lambda self: seen.update(os.environ))
    with clean_environment(SUBMITIT_EXECUTOR="local", PMI_RANK="1", PMI_SIZE="2"):
        executor.RankedTask(str(tmp_path), PREPARE, "", 1)()
    assert "PATH" in seen and not [name for name in seen if name.startswith(("PMI_", "OMPI_", "RANK"))]


def test_a_job_here_gets_the_gpus_that_the_launch_was_confined_to(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b,MIG-c")
    assert executor.visible_gpus(2) == {executor.GPUS: "MIG-a,MIG-b"}
    assert executor.visible_gpus(0) == {}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert executor.visible_gpus(2) == {}


def test_sbatch_and_squeue_are_asked_without_the_variables_of_the_job_around(tmp_path, monkeypatch):
    for name in ("sbatch", "srun", "squeue"):
        script = f"#!/bin/sh\nenv | grep -o '^[A-Z_]*' > {tmp_path}/{name}.env\necho Submitted batch job 5\n"
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CONF", "/etc/mine.conf")
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    for name, value in LAUNCHERS["salloc"].items() | LAUNCHERS["openmpi"].items():
        monkeypatch.setenv(name, value)
    for name in DEVICES:
        monkeypatch.setenv(name, "3")
    monkeypatch.setattr(client, "max_array", lambda: None)
    plan = plan_of(tmp_path / "results")
    executor.submit_stage(plan, plan.stages[0], list(plan.stages[0].jobs), Path("/code"), [])
    client.queue(tmp_path)
    for name in ("sbatch", "squeue"):
        seen = set((tmp_path / f"{name}.env").read_text().split())
        slurms = {v for v in seen if v.startswith(("SLURM", "SBATCH", "SRUN", "SQUEUE", "SUBMITIT", "OMPI"))}
        assert slurms == {"SLURM_CONF"} and "PATH" in seen
    assert not set(DEVICES) & set((tmp_path / "sbatch.env").read_text().split())


def test_what_the_script_sets_reaches_srun_whatever_the_site_exports(tmp_path):
    plan = plan_of(tmp_path)
    (script,) = executor.scripts(plan, plan.stages[0], Path("/code")).values()
    command = next(line for line in script.splitlines() if line.startswith("srun "))
    assert "--export=ALL" in command.partition(sys.executable)[0]


def test_who_pays_may_be_the_shells_choice_and_the_profile_comes_first(monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")
    monkeypatch.setenv("SBATCH_PARTITION", "debug")
    p = ProfileSettings(kind="slurm", partition="gpu")
    client.adopt(p)
    assert (p.account, p.partition, p.qos) == ("lab", "gpu", "")


# CPU quotas


def tree(root: Path, mounts: str, groups: str, limits: dict[str, str]) -> Path:
    """A file system with /proc/self of a process in these control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(mounts)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in limits.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
V1 = "31 23 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
BOTH = V1 + "32 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


HERE = "sys/fs/cgroup"


def v1(group: str, quota: int, period: int = 100000) -> dict[str, str]:
    """The files of a limit on CPUs of version 1."""
    folder = f"{HERE}/cpu,cpuacct{group}"
    return {f"{folder}/cpu.cfs_quota_us": str(quota), f"{folder}/cpu.cfs_period_us": str(period)}


def v2(**limits: str) -> dict[str, str]:
    """The files of version 2, of groups such as a_b: a's b."""
    names = {group: group.replace("_", "/").replace("top", "") for group in limits}
    return {f"{HERE}/{names[group]}/cpu.max": limit for group, limit in limits.items()}


@pytest.mark.parametrize(
    ("mounts", "groups", "limits", "quota"),
    [
        (V2, "0::/\n", v2(top="300000 100000"), 3),
        (V2, "0::/\n", v2(top="max 100000"), None),
        (V2, "0::/\n", {}, None),  # the top group of a machine has no such file
        (V2, "0::/a/b\n", v2(a_b="max 100000", a="200000 100000", top="500000 100000"), 2),
        (V2, "0::/a/b\n", v2(a_b="100000 50000", a="600000 100000"), 2),
        (V2, "0::/../../host\n", v2(top="200000 100000"), 2),
        (V2, "0::/\n", v2(top="250000 100000"), 2),
        (V2, "0::/\n", v2(top="50000 100000"), 1),
        (V1, "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n", v1("", 200000), 2),
        (V1, "4:cpu,cpuacct:/docker/abc/job\n", v1("/job", -1) | v1("", 30000, 10000), 3),
        (BOTH, "4:cpu,cpuacct:/elsewhere\n0::/\n", v1("", -1), None),
        ("a damaged line\n", "damaged", {}, None),
    ],
)
def test_a_containers_quota_counts_where_it_is_less_than_the_cores(
    tmp_path, monkeypatch, mounts, groups, limits, quota
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores(tree(tmp_path, mounts, groups, limits)) == (quota or 8)


def test_trials_side_by_side_and_readers_of_images_follow_the_quota(tmp_path, monkeypatch):
    assert sweep_plan.cores is ingest.cores is cores_module.cores
    monkeypatch.setattr(sweep_plan, "cores", lambda: 3)
    assert executor.slots(plan_of(tmp_path, "cluster=local").experiment) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="control groups are root's")
@pytest.mark.skipif(
    not Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").exists(), reason="needs cgroup v1 for CPUs"
)
def test_a_real_quota_is_seen_by_a_process_in_it():
    group = Path("/sys/fs/cgroup/cpu/skin-gan-test")
    group.mkdir(exist_ok=True)
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("100000")
        ask = f"{sys.executable} -c 'from skin_gan.cores import cores; print(cores())'"
        done = subprocess.run(
            ["sh", "-c", f"echo $$ > {group}/cgroup.procs && {ask}"], capture_output=True, text=True
        )
    finally:
        group.rmdir()
    assert done.stdout.strip() == "1", done.stderr
