"""A grid whose trials are jobs of their own, without Ray, and a final training after it, on this machine."""

import pytest
from launches import launch, rows_of, run_of

from hpc.state.generators import read_card
from hpc.state.snapshot import snapshot
from skin_gan.folders import RunFolder
from skin_gan.io import read_jsonl

GRID = ("classes=[df]", "search.scheduler=none", "final.kimg=0.256")


@pytest.mark.slow
def test_a_grid_of_jobs_leaves_what_a_search_leaves_and_is_trained_on(tmp_path):
    done = launch(tmp_path, *GRID, "backend=array")
    assert done.returncode == 0, done.stderr
    run = run_of(done.stdout)
    jobs = {path.stem for path in (run / "jobs").glob("*.json")}
    assert jobs == {"prepare", "search-df-0000", "search-df-0001", "select", "final-df"}
    assert [row["state"] for row in rows_of(run)] == ["completed"] * 2
    for folder in run.glob("trials/df/0*"):
        assert [row["kimg"] for row in read_jsonl(folder / "metrics.jsonl")] == [0.064, 0.192]
    card, best = read_card(run / "final" / "best" / "df"), read_card(run / "best" / "df")
    assert card["trained_kimg"] == 0.256 and card["trial"] == best["trial"]
    again = launch(tmp_path, *GRID, "backend=ray")
    assert again.returncode == 0 and not (run / "jobs" / "search-df").exists()  # no trial was left to do
    assert snapshot(RunFolder(run)).stage == "done"
