"""A sweep on a real Slurm whose parts are killed: nothing is lost, nothing done twice, causes are named."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from launches import drivers, hpc, rows_of, trainers
from slurm_sweeps import GRID, SLOW, SWEEP, measured

from hpc.plan.sweep_plan import reopen
from skin_gan.folders import DIVERGED, RunFolder

if TYPE_CHECKING:
    from slurm_testbed import Testbed

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]


def test_killed_workers_drivers_and_a_requeue_lose_nothing(slurm: Testbed, sweep) -> None:
    s = sweep(*SLOW, "seed=11")
    s.wait_for_trial()
    slurm.wait_until("a worker", lambda: trainers(drivers(s.run)))
    for pid in trainers(drivers(s.run)):
        os.kill(pid, signal.SIGKILL)
    slurm.wait_until("a new worker", lambda: trainers(drivers(s.run)), 300)
    for pid in drivers(s.run):
        os.kill(pid, signal.SIGKILL)
    s.wait_for_trial(1)
    slurm.client("scontrol", "requeue", s.ids["search-df"])
    s.wait_for_run("search-df", 1)
    s.wait()
    s.check_finished()


def test_a_lost_node_and_a_restarted_controller_lose_nothing(slurm: Testbed, sweep) -> None:
    s = sweep(*GRID, "seed=12", "profile.extra={exclusive: true}")
    s.wait_for_trial(0)
    node = s.record("search-df-0000")["node"]
    slurm.run("kill-node", node)
    slurm.run("kill-node", "slurmctld")
    slurm.run("start-node", "slurmctld")
    s.wait_for_run("search-df-0000", 1)
    slurm.run("start-node", node)
    s.wait()
    s.check_finished()


def test_retry_names_causes_and_redoes_only_what_failed(slurm: Testbed, sweep) -> None:
    # Trials so long that each is still running when its turn comes.
    words = ("search.trials=5", "profile.parallel=3", "profile.minutes=10", "profile.requeues=0",
             "search.rungs=[0.064,4]")  # fmt: skip
    s = sweep(*GRID, *words, "seed=13", "profile.extra={exclusive: true, hold: true}")
    folders = [folder for _, folder in reopen(RunFolder(s.run)).trials("df")]
    folders[0].path.mkdir(parents=True)
    folders[0].last.write_bytes(b"no checkpoint")  # a code error
    folders[3].update(state=DIVERGED, reason="loss_d not finite at 0.1 kimg", kimg=0.1)
    s.steer("release")
    late, lost = (s.wait_for_state(f"search-df-{i}", "running") for i in ("0001", "0002"))
    slurm.interrupt(late)
    slurm.client("scontrol", "update", f"jobid={lost}", "requeue=0")
    node = s.record("search-df-0002")["node"]
    slurm.run("kill-node", node)
    s.wait()
    slurm.run("start-node", node)
    before, ids = measured(s.run), s.ids
    shutil.rmtree(folders[0].path)
    said = s.steer("retry")
    for job, cause in (("0000", "last.pt"), ("0001", "time limit"), ("0002", "lost node")):
        assert any(f"search-df-{job} " in line and cause in line for line in said.splitlines()), cause
    assert "diverged: loss_d not finite" in said and "not retried" in said
    again = {job for job in s.ids if s.ids[job] != ids[job]}
    assert again == {"search-df-0000", "search-df-0001", "search-df-0002", "select"}
    s.steer("release")
    s.wait()
    assert sorted(row["state"] for row in rows_of(s.run)) == ["completed"] * 4 + ["diverged"]
    after = measured(s.run)
    assert after[folders[4].path.name] == before[folders[4].path.name]


def test_without_accounts_and_without_a_controller(
    slurm: Testbed, sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = sweep(*GRID, "seed=14", "profile.extra={hold: true}")
    assert "pending" in s.status() and "JobHeldUser" in s.status()
    s.steer("cancel")
    s.wait()
    slurm.wait_until("the accounts", lambda: "cancelled" in s.status(), 60)
    bare = {**os.environ, "PATH": str(tmp_path)}
    (tmp_path / "squeue").symlink_to(shutil.which("squeue"))
    said = s.status(env=bare)
    assert "0 jobs in the queue" in said and "without a word" in said  # there is no sacct
    slurm.run("kill-node", "slurmctld")
    assert "from disk alone" in s.status()
    done = hpc("launch", *SWEEP, "cluster=testbed", f"results={tmp_path}/new")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()
    monkeypatch.delenv("SLURM_CONF")
    done = hpc("launch", *SWEEP, "cluster=testbed", f"results={tmp_path}/new")
    assert done.returncode == 2 and "slurm/testbed up" in done.stderr
