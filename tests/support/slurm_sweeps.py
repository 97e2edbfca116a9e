"""Sweeps on the real Slurm of `slurm_testbed`, launched by the fixture `sweep`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from launches import hpc, ours_alive, rows_of, run_of
from slurm_testbed import Testbed

from skin_gan.io import read_jsonl

SWEEP = ("sweep=aegan_lr", "data=demo", "budget=micro", "classes=[df]")
# Long enough to be interrupted, and without decisions that depend on which trial was faster.
SLOW = ("search.scheduler=none", "search.rungs=[0.064,0.96]", "operations.checkpoint_seconds=0")
GRID = (*SLOW, "backend=array")  # the same without Ray, so with less to wait for


class Sweep:
    """One sweep of a test: launched on the testbed, watched through its folder and Slurm."""

    def __init__(self, slurm: Testbed, results: Path, *words: str) -> None:
        self.slurm = slurm
        self.words = (*SWEEP, f"results={results}", *words)
        self.launch()

    def launch(self, *more: str) -> str:
        done = hpc("launch", *self.words, "cluster=testbed", *more)
        assert done.returncode == 0, done.stderr
        self.run = run_of(done.stdout)
        return done.stdout

    def steer(self, action: str) -> str:
        done = hpc("steer", action, str(self.run))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self, **options: dict[str, str]) -> str:
        done = hpc("status", str(self.run), **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def ids(self) -> dict[str, str]:
        return {row["job"]: row["id"] for row in read_jsonl(self.run / "jobs" / "slurm.jsonl")}

    @property
    def states(self) -> list[str]:
        """Of the trials that have begun."""
        return [json.loads(path.read_text())["state"] for path in self.run.glob("trials/df/0*/state.json")]

    def record(self, job: str) -> dict:
        path = self.run / "jobs" / f"{job}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def wait_for_state(self, job: str, state: str, seconds: float = 600) -> str:
        """Until the job's own record says so; returns its id."""
        self.slurm.wait_until(f"{job} {state}", lambda: self.record(job).get("state") == state, seconds)
        return self.ids[job]

    def wait_for_run(self, job: str, number: int) -> None:
        """Until the job runs again after so many restarts."""
        self.slurm.wait_until(
            f"run {number} of {job}", lambda: self.record(job).get("restarts") == number, 600
        )

    def wait_for_trial(self, index: int = 0, inside: str = "trials") -> None:
        """Until this trial of df is in the middle."""
        pattern = f"{inside}/df/{index:04d}-*/last.pt"
        self.slurm.wait_until("a checkpoint", lambda: [*self.run.glob(pattern)], 600)

    def wait(self) -> None:
        """Until every job has left the queue."""
        mine = {i.partition("_")[0] for i in self.ids.values()}

        def queued() -> set[str]:
            return mine & set(self.slurm.client("squeue", "-h", "-o", "%A %F").split())

        self.slurm.wait_until("the end of the sweep", lambda: not queued(), 500)

    def check_finished(self, last: float = 0.96) -> None:
        """Every trial at its end, each rung measured once, and the leaderboard says so."""
        rows = rows_of(self.run)
        assert [row["state"] for row in rows] == ["completed"] * len(rows)
        for rungs in measured(self.run).values():
            assert [kimg for kimg, _ in rungs] == [0.064, last]
        assert (self.run / "best" / "df" / "generator.safetensors").exists()


def measured(run: Path) -> dict[str, list[tuple[float, float]]]:
    """(kimg, KID) of each trial's evaluations."""
    folders = run.glob("trials/*/0*")
    return {f.name: [(r["kimg"], r["kid"]) for r in read_jsonl(f / "metrics.jsonl")] for f in folders}


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the built-in data and its features are made once."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def sweep(slurm: Testbed, results: Path) -> Iterator[Callable[..., Sweep]]:
    """Launches a sweep with the words given. Afterwards no process of any is left."""
    yield partial(Sweep, slurm, results)
    slurm.run("up")  # what the test killed
    slurm.client("scancel", "--user=root")
    slurm.wait_until("no process of a sweep", lambda: not ours_alive(results), 60)
