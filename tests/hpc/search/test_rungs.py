"""Successive halving: which trials Ray's scheduler stops at which rung, whatever the rungs' numbers are."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from plans import complete, plan_of

from hpc.plan.sweep_plan import SEARCH
from hpc.search.ray_tune import Rungs, report_failures, rung_at
from hpc.search.runner import Runner
from hpc.settings.compose import SearchSettings
from hpc.stages.select import leaderboard
from skin_gan.folders import ALARMED, COMPLETED, PRUNED, TrialFolder
from skin_gan.io import read_jsonl

FIRST = (0.1, 0.3, 0.7, 1.0, 1.1, 2.3, 4.0, 12.0)
FACTORS = (1.5, 2.0, 2.5, 3.0, 4.0)
LENGTHS = (2, 3, 4, 5, 6)


def rungs_of(first: float, factor: float, length: int) -> list[float]:
    """As somebody types them: decimal numbers, not products in binary ones."""
    return [float(f"{first * factor**i:.10g}") for i in range(length)]


def scheduler(rungs: list[float], folder: Path, trials: int) -> Rungs:
    folders = {i: TrialFolder(folder / f"{i:04d}-x") for i in range(trials)}
    rungs_ = Rungs(SearchSettings(rungs=rungs), folder / "decisions.jsonl", folders)
    for i in range(trials):
        rungs_.on_trial_add(None, trial(i))
    return rungs_


def trial(index: int) -> SimpleNamespace:
    return SimpleNamespace(trial_id=str(index), config={"index": index})


def result(kimg: float, kid: float) -> dict[str, float | bool]:
    return {"kimg": kimg, "kid": kid, "failed": False, "alarmed": False, "ended": False}


@pytest.mark.parametrize("length", LENGTHS)
def test_each_rung_but_the_last_stops_a_trial_that_is_worse_than_one_before(length, tmp_path):
    """The best trial first: of two results the worse is below every cutoff of a factor of 1.5 or more."""
    for first, factor in itertools.product(FIRST, FACTORS):
        rungs = rungs_of(first, factor, length)
        for at in range(length):
            folder = tmp_path / f"{first}-{factor}-{at}"
            search = scheduler(rungs, folder, 2)
            for kimg in rungs[: at + 1]:
                assert search.on_trial_result(None, trial(0), result(kimg, 10.0)) == search.CONTINUE
            for kimg in rungs[:at]:  # equally good until here
                assert search.on_trial_result(None, trial(1), result(kimg, 10.0)) == search.CONTINUE
            last = at == length - 1
            expected = search.CONTINUE if last else search.STOP
            assert search.on_trial_result(None, trial(1), result(rungs[at], 20.0)) == expected, (rungs, at)
            assert (search.folders[1].state()["state"] == PRUNED) != last
            assert len(read_jsonl(folder / "decisions.jsonl")) == 2 * (at + 1)


def test_a_restart_is_told_the_same_decisions(tmp_path):
    rungs = [0.7, 2.1, 6.3, 18.9]
    search = scheduler(rungs, tmp_path, 2)
    for kimg in rungs[:3]:
        search.on_trial_result(None, trial(0), result(kimg, 10.0))
    again = Rungs(SearchSettings(rungs=rungs), tmp_path / "decisions.jsonl", search.folders)
    again.on_trial_add(None, trial(1))
    assert [again.on_trial_result(None, trial(1), result(kimg, kid)) for kimg, kid in
            zip(rungs, (10.0, 10.0, 20.0), strict=False)] == ["CONTINUE", "CONTINUE", "STOP"]  # fmt: skip


@pytest.mark.parametrize(
    ("kimg", "rung"), [(0.5, -1), (0.7, 0), (2.0, 0), (2.1, 1), (0.7 * 3 * 3, 2), (99, 3)]
)
def test_a_rung_is_reached_at_its_own_number_of_images(kimg, rung):
    assert rung_at([0.7, 2.1, 6.3, 18.9], kimg) == rung


def test_a_trial_that_an_alarm_stopped_is_done_without_failing_and_weighs_on_no_decision(tmp_path):
    words = ("operations.device=cpu", "evaluate.images=16", "evaluate.grid=4", "evaluate.alarm_after=1",
             "trial.model.base=4", "trial.train.batch=8", "backend=array", "search.scheduler=none",
             "search.rungs=[0.016,0.032]", "search.trials=1", "classes=[df]")  # fmt: skip
    plan = plan_of(tmp_path, *words, "evaluate.stop_on_alarm=true")
    _, folder = plan.trials("df")[0]
    job = next(stage for stage in plan.stages if stage.name == SEARCH).jobs[0]
    runner = Runner(plan, "df")
    runner.judge = lambda _: {"kid": 1.0, "coverage": 0.5, "copies": 0.5, "note": ""}
    ended = runner.run(0)
    assert ended["alarmed"] and ended["ended"] and not ended["failed"]
    state = folder.state()
    assert (state["state"], state["kimg"]) == (ALARMED, 0.016) and "copies of 0.5" in state["reason"]
    assert complete(plan, job)
    (row,) = leaderboard(plan)
    assert row["kid"] == 1.0 and row["state"] == ALARMED and row["note"] == f"alarm: {state['alarm']}"
    search = scheduler([1, 2, 4], tmp_path, 2)
    search.on_trial_result(None, trial(0), result(1, 10.0))
    assert search.on_trial_result(None, trial(1), {**ended, "kimg": 1}) == search.CONTINUE
    assert len(read_jsonl(tmp_path / "decisions.jsonl")) == 1
    report_failures({0: folder})
    on = plan_of(tmp_path, *words)
    assert on.trials("df")[0][1] == folder and not complete(on, job)
    runner = Runner(on, "df")
    runner.judge = lambda _: {"kid": 1.0, "coverage": 0.5, "copies": 0.5, "note": ""}
    assert not runner.run(0)["alarmed"]
    assert folder.state()["state"] == COMPLETED and complete(on, job)
