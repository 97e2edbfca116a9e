"""A sweep on a real Slurm: submitted and walked away from, interrupted, steered, launched again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_launch import ours_alive, rows_of

from skin_gan.run import read_jsonl

if TYPE_CHECKING:
    from slurm_testbed import Testbed

pytest_plugins = ["slurm_testbed"]
# By hand until each has been seen to pass on a quiet machine.
pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[1]
SWEEP = ("sweep=aegan_lr", "data=demo", "budget=micro")
# Long enough to be interrupted, and without decisions that depend on which trial was faster.
SLOW = (
    "classes=[df]",
    "search.scheduler=none",
    "search.rungs=[0.064,0.64]",
    "operations.checkpoint_seconds=0",
)


def hpc(script: str, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "hpc" / f"{script}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd="/")
    print(done.stdout, done.stderr)
    return done


class Sweep:
    """One sweep of a test: launched on the testbed, watched through its folder and Slurm."""

    def __init__(self, slurm: Testbed, results: Path, *words: str) -> None:
        self.slurm = slurm
        self.words = (*SWEEP, f"results={results}", *words)
        self.launch()

    def launch(self, *more: str) -> str:
        done = hpc("launch", *self.words, "cluster=testbed", *more)
        assert done.returncode == 0, done.stderr
        self.run = Path(done.stdout.rstrip().splitlines()[-1].removeprefix("results: "))
        return done.stdout

    @property
    def ids(self) -> dict[str, str]:
        return {row["job"]: row["id"] for row in read_jsonl(self.run / "jobs" / "slurm.jsonl")}

    def record(self, job: str) -> dict:
        path = self.run / "jobs" / f"{job}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def wait_for_trial(self) -> str:
        """Until df is in the middle of a trial; returns the id of its job."""
        self.slurm.wait_until("a checkpoint", lambda: [*self.run.glob("trials/df/*/last.pt")], 240)
        return self.ids["search-df"]

    def wait(self) -> None:
        """Until every job has left the queue."""
        mine = {i.partition("_")[0] for i in self.ids.values()}

        def queued() -> set[str]:
            return mine & set(self.slurm.client("squeue", "-h", "-o", "%A %F").split())

        self.slurm.wait_until("the end of the sweep", lambda: not queued(), 300)

    def check_finished(self) -> None:
        """Every trial at its end, each rung measured once, and the leaderboard says so."""
        rows = rows_of(self.run)
        assert [row["state"] for row in rows] == ["completed", "completed"]
        for folder in self.run.glob("trials/df/0*"):
            assert [row["kimg"] for row in read_jsonl(folder / "metrics.jsonl")] == [0.064, 0.64]
        assert (self.run / "best" / "df" / "generator.safetensors").exists()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the built-in data and its features are made once."""
    return tmp_path_factory.mktemp("results")


def run_here(results: Path, *words: str) -> Path:
    """Run a sweep on this machine, with the data and features that are in `results`; returns its folder."""
    other = results / "local"
    other.mkdir()
    for shared in ("cache", "stores"):
        (other / shared).symlink_to(results / shared)
    done = hpc("launch", *SWEEP, f"results={other}", *words, "cluster=local", timeout=300)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.rstrip().splitlines()[-1].removeprefix("results: "))


@pytest.fixture(autouse=True)
def nothing_left(results: Path) -> Iterator[None]:
    yield
    assert [text for text in ours_alive(results) if "hpc.search" in text] == []


def measured(run: Path) -> dict[str, list[tuple[float, float]]]:
    folders = run.glob("trials/*/0*")
    return {f.name: [(r["kimg"], r["kid"]) for r in read_jsonl(f / "metrics.jsonl")] for f in folders}


def test_a_sweep_that_is_interrupted_ends_as_on_this_machine(slurm: Testbed, results: Path) -> None:
    sweep = Sweep(slurm, results, *SLOW, "seed=1")
    job = sweep.wait_for_trial()
    slurm.client("scancel", job, "--signal", "USR2")  # as before the time limit
    slurm.wait_until("the second run", lambda: sweep.record("search-df").get("restarts") == 1, 120)
    sweep.wait()
    sweep.check_finished()
    assert measured(sweep.run) == measured(run_here(results, *SLOW, "seed=1"))


def test_launching_again_attaches(slurm: Testbed, results: Path) -> None:
    sweep = Sweep(slurm, results, *SLOW, "seed=2")
    first = sweep.ids
    said = sweep.launch()
    assert "nothing new to submit: attached" in said and sweep.ids == first
    assert "pending" in hpc("status", str(sweep.run)).stdout
    assert hpc("steer", "cancel", str(sweep.run)).returncode == 0
    sweep.wait()
    assert "cancelled" in hpc("status", str(sweep.run)).stdout


def test_a_lost_node_and_a_killed_driver_lose_nothing(slurm: Testbed, results: Path) -> None:
    sweep = Sweep(slurm, results, *SLOW, "seed=3")
    job = sweep.wait_for_trial()
    node = slurm.job(job, "NodeList")
    slurm.run("kill-node", node)
    slurm.wait_until("the second run", lambda: sweep.record("search-df").get("restarts") == 1, 120)
    slurm.run("start-node", node)
    slurm.wait_until("the driver", lambda: drivers(sweep.run), 60)
    for pid in drivers(sweep.run):
        os.kill(pid, signal.SIGKILL)
    sweep.wait()
    sweep.check_finished()


def drivers(run: Path) -> list[int]:
    """Ids of the processes in which a sweep's Ray runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if b"hpc.search" in words and str(run).encode() in words:
            found.append(int(path.parent.name))
    return found


def test_cancelling_leaves_no_process_and_retry_goes_on(slurm: Testbed, results: Path) -> None:
    sweep = Sweep(slurm, results, *SLOW, "seed=4")
    sweep.wait_for_trial()
    assert hpc("steer", "cancel", str(sweep.run)).returncode == 0
    sweep.wait()
    slurm.wait_until("no process", lambda: not ours_alive(sweep.run), 30)
    assert "cancelled" in hpc("status", str(sweep.run)).stdout
    assert "submitted: search-df" in hpc("steer", "retry", str(sweep.run)).stdout
    sweep.wait()
    sweep.check_finished()


def test_set_up_scratch_and_constraint_reach_the_job(slurm: Testbed, results: Path, tmp_path: Path) -> None:
    setup = f"profile.setup=['echo \"on $SLURMD_NODENAME\" >> {tmp_path}/setup']"
    extra = "profile.extra={nodelist: node2}"
    words = (f"profile.scratch={tmp_path}/$USER_FOR_TEST", setup, extra, "seed=5", "classes=[df]")
    os.environ["USER_FOR_TEST"] = "me"
    sweep = Sweep(slurm, results, *words)
    sweep.wait()
    assert (tmp_path / "setup").read_text().split("\n")[:3] == ["on node2"] * 3
    assert [path.name for path in (tmp_path / "me").glob("skin-gan-*/images-32.npy")] == ["images-32.npy"]
    assert len(rows_of(sweep.run)) == 2


def test_a_cluster_that_does_not_answer_is_one_clear_error(
    slurm: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.run("kill-node", "slurmctld")
    done = hpc("launch", *SWEEP, "cluster=testbed", f"results={tmp_path}")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("SLURM_CONF")
    done = hpc("launch", *SWEEP, "cluster=testbed", f"results={tmp_path}")
    assert done.returncode == 2 and "slurm/testbed up" in done.stderr
