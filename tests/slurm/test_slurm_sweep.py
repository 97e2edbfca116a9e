"""A sweep on a real Slurm: submitted and walked away from, interrupted, attached to, steered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from launches import drivers, hpc, processes, rows_of, run_of
from slurm_sweeps import GRID, SLOW, SWEEP, measured

from skin_gan.io import read_jsonl

if TYPE_CHECKING:
    from slurm_testbed import Testbed

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]


def run_here(results: Path, *words: str) -> Path:
    """Run a sweep on this machine, with the data and features that are in `results`; returns its folder."""
    other = results / "local"
    other.mkdir(exist_ok=True)
    for shared in ("cache", "stores"):
        if not (other / shared).exists():
            (other / shared).symlink_to(results / shared)
    done = hpc("launch", *SWEEP, f"results={other}", *words, "cluster=local", timeout=300)
    assert done.returncode == 0, done.stderr
    return run_of(done.stdout)


def test_the_whole_chain_is_submitted_at_once_and_ends_with_a_report(slurm: Testbed, sweep) -> None:
    head = "ablate.classifiers.head={arms: [real, class_weights, best], seeds: 1, steps: 50}"
    s = sweep(*GRID, "classes=[df,vasc]", "search.trials=1", head, "seed=9")
    stages = ["prepare", "search", "select", "generate", "ablate", "combine", "report"]
    assert list(dict.fromkeys(job.partition("-")[0] for job in s.ids)) == stages
    s.wait()
    assert {s.record(job)["state"] for job in s.ids} == {"done"}
    gains = (s.run / "report" / "gains.csv").read_text()
    assert "class_weights" in gains and (s.run / "report" / "index.html").exists()
    assert "nothing left to do" in s.launch()


def test_a_search_that_is_interrupted_ends_as_on_this_machine(slurm: Testbed, results: Path, sweep) -> None:
    s = sweep(*SLOW, "seed=1")
    s.wait_for_trial()
    slurm.interrupt(s.ids["search-df"])
    s.wait_for_run("search-df", 1)
    assert "failed" not in s.states
    s.wait()
    s.check_finished()
    here = run_here(results, *GRID, "seed=1")  # without Ray
    assert measured(s.run) == measured(here)
    assert (s.run / "leaderboard.csv").read_text() == (here / "leaderboard.csv").read_text()


def test_a_preempted_search_halves_as_on_this_machine(slurm: Testbed, results: Path, sweep) -> None:
    words = ("search.trials=3", "search.scheduler=asha", "search.rungs=[0.064,0.16,0.4]", "seed=6",
             "operations.checkpoint_seconds=0")  # fmt: skip
    s = sweep(*words, "profile.partition=low", "profile.extra={nodelist: node3}")
    s.wait_for_trial()
    place = ("--partition=high", "--nodelist=node3", "--exclusive", "--output=/dev/null")
    slurm.client("sbatch", *place, "--wrap=sleep 1")
    s.wait_for_run("search-df", 1)
    s.wait()
    decisions = [(row["index"], row["kimg"]) for row in read_jsonl(s.run / "trials/df/decisions.jsonl")]
    assert len(set(decisions)) == len(decisions)
    here = measured(run_here(results, *words))
    there = measured(s.run)
    assert there.keys() == here.keys()  # a trial's name is a hash of its settings
    for name, rungs in there.items():
        shared = min(len(rungs), len(here[name]))  # which trials go on depends on who was first
        assert shared and rungs[:shared] == here[name][:shared]
    assert set(s.states) <= {"completed", "pruned"} and "completed" in s.states


def test_two_searches_share_a_node_and_launching_again_attaches(slurm: Testbed, sweep) -> None:
    # Trials so long that the first still runs when the second's turn comes.
    words = (*SLOW, "search.trials=1", "search.rungs=[0.064,2]", "profile.extra={nodelist: node1}")
    first, second = sweep(*words, "seed=2"), sweep(*words, "seed=3")
    ids = first.ids
    assert "nothing new to submit: attached" in first.launch() and first.ids == ids
    slurm.wait_until("both", lambda: drivers(first.run) and drivers(second.run), 300)
    assert first.record("search-df")["node"] == second.record("search-df")["node"] == "node1"
    for s in (first, second):
        s.wait()
        s.check_finished(2.0)
    assert [row["trial"] for row in rows_of(first.run)] != [row["trial"] for row in rows_of(second.run)]


def test_cancelling_leaves_no_process_on_any_node_and_launching_again_goes_on(slurm: Testbed, sweep) -> None:
    s = sweep(*SLOW, "seed=4")
    s.wait_for_trial()
    assert processes(s.run)
    s.steer("cancel")
    s.wait()
    slurm.wait_until("no process", lambda: not processes(s.run), 60)
    assert "cancelled" in s.status() and "failed" not in s.states
    s.launch()
    s.wait_for_run("search-df", 1)
    s.steer("cancel")
    assert "submitted: search-df" in s.launch()  # while Slurm is ending the one before
    s.wait()
    s.check_finished()


def test_set_up_scratch_and_constraint_reach_the_job(slurm: Testbed, sweep, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("USER_FOR_TEST", "me")
    slurm.client("scontrol", "update", "nodename=node2", "AvailableFeatures=fast", "ActiveFeatures=fast")
    setup = f"profile.setup=['echo \"on $SLURMD_NODENAME\" >> {tmp_path}/setup']"
    s = sweep(
        *GRID, "seed=5", "search.trials=1", f"profile.scratch={tmp_path}/$USER_FOR_TEST", setup,
        "profile.constraint=fast",
    )  # fmt: skip
    s.wait()
    assert (tmp_path / "setup").read_text().splitlines() == ["on node2"] * 3
    assert [path.name for path in (tmp_path / "me").glob("skin-gan-*/images-32.npy")] == ["images-32.npy"]
    s.check_finished()


def test_limits_of_the_cluster_are_told_before_anything_is_submitted(slurm: Testbed, tmp_path: Path) -> None:
    slurm.client("scontrol", "update", "partitionname=high", "MaxTime=0-00:30:00")
    for words, says in (
        (["profile.partition=high"], "allows at most 30"),
        (["profile.partition=gpu"], "this cluster has main, low, high"),
    ):
        done = hpc("launch", *SWEEP, "cluster=testbed", f"results={tmp_path}", *words)
        assert done.returncode == 2 and says in done.stderr and not list(tmp_path.iterdir())


def test_jobs_without_gpu_run_elsewhere_and_a_sweep_stops_at_its_limit(slurm: Testbed, sweep) -> None:
    gpus = (
        "profile.gpus_per_node=1",
        "profile.gres=gpu:1",
        "operations.device=cpu",
        "seed=61",
        "trial.model.base=12",
    )
    s = sweep(*GRID, *gpus, "search.trials=1", "profile.cpu_partition=low", "limit.device_hours=1e-6")
    s.wait()
    show = {
        job: slurm.client("scontrol", "show", "job", s.ids[job])
        for job in ("prepare", "search-df-0000", "select")
    }
    assert "Partition=main" in show["prepare"] and "gres:gpu:1" in show["search-df-0000"]
    assert "Partition=low" in show["select"] and "gpu" not in show["select"]
    search = s.record("search-df-0000")
    assert (search["state"], search["limit"]) == ("stopped", True)
    assert s.record("prepare")["state"] in ("done", "stopped")  # where it takes long, it is stopped itself
    assert "JobState=COMPLETED" in show["search-df-0000"]
    assert "limit.device_hours=1e-06 is reached" in s.status()
    s.launch("limit.device_hours=5")
    s.wait()
    s.check_finished()
