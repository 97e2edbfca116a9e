"""Launches on a real Slurm from wherever people launch: jobs run as from a login shell, or say why not."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from launches import hpc, run_of
from places import ROOT
from slurm_sweeps import GRID, SWEEP

if TYPE_CHECKING:
    from slurm_testbed import Testbed

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]
SHORT = (*GRID, "search.trials=1", "search.rungs=[0.064,0.096]")
# Of an allocation, of options that exclude the jobs' own, and of mpirun.
AROUND = {
    "SLURM_MEM_PER_CPU": "200", "SLURM_MEM_PER_GPU": "100", "SLURM_GPUS": "1", "SLURM_GPUS_PER_NODE": "2",
    "SLURM_EXPORT_ENV": "NONE", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "99999", "SQUEUE_STATES": "RUNNING",
    "SBATCH_MEM_PER_CPU": "100", "SRUN_CPUS_PER_TASK": "3", "PMI_SIZE": "4", "PMI_RANK": "1", "RANK": "1",
    "WORLD_SIZE": "2",
}  # fmt: skip


def test_variables_of_the_shell_around_do_not_reach_the_jobs(slurm: Testbed, sweep, monkeypatch) -> None:
    with monkeypatch.context() as around:  # the launch alone: this test's own squeue must show every job
        for name, value in AROUND.items():
            around.setenv(name, value)
        s = sweep(*SHORT, "seed=71", "profile.extra={export: NONE}")
    s.wait()
    assert {s.record(job).get("state") for job in s.ids} == {"done"}


def test_a_batch_job_may_launch(slurm: Testbed, results: Path) -> None:
    words = (*SWEEP, f"results={results}", *SHORT, "seed=72", "cluster=testbed")
    command = " ".join(f"'{word}'" for word in (sys.executable, f"{ROOT}/hpc/launch.py", *words))
    said = results / "launch.out"
    slurm.client(
        "sbatch", "--mem-per-cpu=200", "--ntasks=2", f"--output={said}", f"--wrap={command}", "--wait"
    )
    run = run_of(said.read_text())
    slurm.wait_until("the end", lambda: not slurm.client("squeue", "--noheader"), 500)
    page = hpc("status", str(run)).stdout
    rows = [row for row in page.splitlines() if row.startswith(("prepare", "search", "select"))]
    assert "stage done" in page and len(rows) == 3 and all(" done " in row for row in rows)


@pytest.mark.parametrize(
    ("setup", "why"),
    [
        ("export SLURM_MEM_PER_CPU=200", "srun: fatal: SLURM_MEM_PER_CPU, SLURM_MEM_PER_GPU"),
        ("export SLURM_GPUS_PER_NODE=2", "Step requested GRES but job doesn't have GRES"),
        ("echo no licence is left >&2; exit 3", "no licence is left"),
    ],
)
def test_what_a_job_died_of_at_once_is_said_by_status_and_by_the_next_launch(
    slurm: Testbed, sweep, tmp_path: Path, setup: str, why: str
) -> None:
    s = sweep(*SHORT, f"seed={len(setup)}", f"profile.setup=['{setup}']")
    s.wait()
    (tmp_path / "squeue").symlink_to(str(shutil.which("squeue")))
    for path in (os.environ["PATH"], str(tmp_path)):  # with accounts, and without
        page = s.status(env={**os.environ, "PATH": path})
        row = next(row for row in page.splitlines() if row.startswith("prepare"))
        assert "failed" in row and why in row
    said = s.launch("profile.extra={hold: true}")
    assert any(row.startswith("prepare (job ") and why in row for row in said.splitlines())
    s.steer("cancel")
