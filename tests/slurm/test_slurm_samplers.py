"""An adaptive sampler on a real Slurm: preempted, killed, extended, and in rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from slurm_sweeps import GRID, SLOW

from hpc.plan.sweep_plan import proposals, reopen
from hpc.search.proposals import derived_again
from skin_gan.folders import RunFolder
from skin_gan.io import read_jsonl

if TYPE_CHECKING:
    from slurm_testbed import Testbed

pytest.importorskip("optuna")
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]
TPE = ("search.sampler=tpe", "search.startup=2")


def check(s, trials: int) -> list[dict]:
    """Each trial was recorded once, follows from the record, and ran once to its end; the record's lines."""
    run = RunFolder(s.run)
    rows, plan = read_jsonl(proposals(run, "df")), reopen(run)
    assert [row["index"] for row in rows] == list(range(trials))
    folders = sorted((run.trials / "df").glob("0*"))
    assert folders == [folder.path for _, folder in plan.trials("df")]
    assert s.states == ["completed"] * trials
    for spec, folder in plan.trials("df"):
        rungs = [row["kimg"] for row in read_jsonl(folder.metrics)]
        assert rungs == plan.experiment.search.rungs, "each rung once"
        if rows[spec.index]["sampler"] == "tpe":
            assert derived_again(plan, "df", rows, spec.index) == rows[spec.index]["values"]
    return rows


def test_a_search_that_is_preempted_and_killed_keeps_its_proposals(slurm: Testbed, sweep) -> None:
    place = ("profile.partition=low", "profile.extra={nodelist: node3}")
    s = sweep(*SLOW, *TPE, *place, "search.trials=4", "seed=31")
    s.wait_for_trial(2)
    path = proposals(RunFolder(s.run), "df")
    before = read_jsonl(path)
    slurm.client("sbatch", "--partition=high", "--nodelist=node3", "--exclusive", "--output=/dev/null",
                 "--wrap=sleep 1")  # fmt: skip
    s.wait_for_run("search-df", 1)
    s.wait_for_trial(3)
    s.steer("cancel")
    s.wait()
    s.launch("search.trials=5")
    s.wait()
    assert check(s, 5)[: len(before)] == before


def test_rounds_of_an_array_wait_for_one_another(slurm: Testbed, sweep) -> None:
    s = sweep(*GRID, *TPE, "search.round=2", "search.trials=5", "seed=32")
    arrays = list(dict.fromkeys(id.partition("_")[0] for job, id in s.ids.items() if "search" in job))
    assert len(arrays) == 3
    s.wait_for_trial(2)
    slurm.interrupt(s.ids["search-df-0002"])
    s.wait_for_run("search-df-0002", 1)
    s.wait()
    rows = check(s, 5)
    assert {*rows[2]["told"]} == {"0", "1"} and {"2", "3"} <= {*rows[4]["told"]}
    assert all(
        told[0] == "measured" for row in rows for told in row["told"].values() if row["index"] in (2, 4)
    )
