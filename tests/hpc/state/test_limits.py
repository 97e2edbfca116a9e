"""A sweep stops itself where it has used what it may, and goes on with a larger limit."""

from dataclasses import replace

import pytest
from launches import MICRO
from plans import complete, launched

from hpc.cli import cost
from hpc.cli import launch as command
from hpc.cluster import executor
from hpc.jobs import task as jobs
from hpc.jobs.task import Task
from hpc.plan.sweep_plan import Job, reopen, unfinished
from hpc.search.runner import Runner
from hpc.settings.compose import load, save
from hpc.slurm.job_states import ended_state
from hpc.state import limits
from hpc.state.limits import LimitReached, check, checking, closed, device_hours, reached, size
from hpc.state.records import record
from hpc.state.snapshot import of_jobs, snapshot
from hpc.state.submissions import Submission
from skin_gan.folders import COMPLETED, STOPPED, RunFolder
from skin_gan.io import read_json, write_json


def limited(run: RunFolder, **limit: float) -> None:
    """Other limits, as a later launch writes them."""
    e = load(run.settings)
    save(replace(e, limit=replace(e.limit, **limit)), run.settings)


@pytest.fixture
def plan(tmp_path):
    """A sweep that has used one device-hour: 1800 s of two trials, and as much of `prepare`."""
    plan = launched(tmp_path)
    for _, folder in plan.trials("df"):
        folder.update(state="running", seconds=900.0, kimg=0.1)
    write_json(plan.run.jobs / "prepare.json", {"state": "done", "seconds": 1800.0})
    write_json(plan.run.jobs / "search-df.json", {"state": "running", "seconds": 9999.0})  # its trials count
    return plan


def test_what_trials_and_other_jobs_have_taken_is_used(plan):
    assert device_hours(snapshot(plan.run)) == pytest.approx(1.0)
    plan.trials("df")[0][1].state_file.write_text(
        '{"state": "completed", "kimg": 9.0, "images_per_second": 10}'
    )
    assert device_hours(snapshot(plan.run)) == pytest.approx(1.0)  # of an earlier version: 900 s of training
    e = load(plan.run.settings)
    e.profile.devices_per_trial = 2
    assert device_hours(replace(snapshot(plan.run), experiment=e)) == pytest.approx(1.5)


def test_limits_are_those_of_the_last_launch(plan):
    assert reached(plan.run) == ""
    limited(plan.run, device_hours=0.9)
    assert "limit.device_hours=0.9 is reached: 1 device-hours are used" in reached(plan.run)
    with pytest.raises(LimitReached):
        check(plan.run)
    limited(plan.run, device_hours=1.1)
    assert reached(plan.run) == ""
    (plan.run.path / "large").write_bytes(bytes(2_000_000))
    assert 2_000_000 < size(plan.run.path) < 2_100_000
    limited(plan.run, disk=0.001)
    assert "limit.disk=0.001 is reached" in reached(plan.run)


def test_a_record_counts_all_runs_of_its_job(tmp_path):
    run = RunFolder(tmp_path)
    write_json(run.jobs / "select.json", {"state": "failed", "seconds": 100.0})
    with record(run, "select"):
        pass
    assert 100.0 <= read_json(run.jobs / "select.json")["seconds"] < 105.0


def test_a_stage_stops_between_reports_and_its_record_says_why(plan, monkeypatch):
    monkeypatch.setattr(limits, "EVERY", -1.0)
    limited(plan.run, device_hours=0.5)
    with pytest.raises(LimitReached), record(plan.run, "generate-df-fold-0") as tell:
        checking(plan.run, tell)(done=3, total=9)
    entry = read_json(plan.run.jobs / "generate-df-fold-0.json")
    assert (entry["state"], entry["limit"], entry["done"]) == ("stopped", True, 3)
    assert entry["error"].startswith("limit.device_hours=0.5 is reached")
    state = ended_state(plan.run, Submission("generate-df-fold-0", ""), entry, "COMPLETED", asked=True)
    assert (state.state, state.why) == ("stopped", entry["error"])


def test_a_trial_stops_before_its_next_rung_and_has_work_left(plan):
    runner = Runner(plan, "df")
    runner.open(1)
    limited(plan.run, device_hours=0.5)
    result = runner.step()
    assert result["ended"] and result["failed"]  # so that no decision of successive halving is made
    state = plan.trials("df")[1][1].state()
    assert (state["state"], state["kimg"]) == (STOPPED, 0.1) and "limit.device_hours" in state["reason"]
    assert unfinished(state, plan.experiment) and not complete(plan, Job("search", "df"))
    with pytest.raises(LimitReached):
        jobs.raise_if_stopped(state)


def test_a_job_that_starts_beyond_a_limit_stops_and_has_not_failed(plan, capsys):
    limited(plan.run, device_hours=0.5)
    Task(str(plan.run.path), "report", "", 1)()
    entry = read_json(plan.run.jobs / "report.json")
    assert (entry["state"], entry["limit"]) == ("stopped", True)
    assert "stopped: limit.device_hours=0.5 is reached" in capsys.readouterr().err


def test_no_more_jobs_start_here_but_the_selection(plan, monkeypatch):
    limited(plan.run, device_hours=0.5)
    plan, started = reopen(plan.run), []
    assert "limit.device_hours" in closed(plan, "select")  # there is nothing to select
    plan.trials("df")[0][1].update(best_kid=50.0)
    monkeypatch.setattr(
        executor, "run_jobs", lambda plan, jobs, *_: started.extend(j.name for j in jobs) or []
    )
    wanted = [job for stage in plan.stages for job in stage.jobs]
    executor.run_local(plan, wanted, plan.run.path, lambda: None, of_jobs(plan, wanted))
    assert started == ["select"]
    limited(plan.run, device_hours=0.0)
    started.clear()
    executor.run_local(plan, wanted, plan.run.path, lambda: None, of_jobs(plan, wanted))
    assert {"search-df", "select"} <= {*started}


@pytest.mark.slow
def test_a_launch_stops_at_its_limit_and_a_larger_one_goes_on(tmp_path, monkeypatch, capfd):
    """Its own processes train: the first rung takes it beyond the limit, as no estimate had foreseen."""
    cheap = cost.Estimate({}, cost.Cost(), "made up")
    monkeypatch.setattr(command, "estimate", lambda *_, **__: cheap)
    words = [*MICRO, "classes=[df]", "search.scheduler=none", "profile.slots=1", f"results={tmp_path}"]
    assert command.launch([*words, "search.rungs=[0.064]", "search.trials=1"]) == 0
    (path,) = tmp_path.glob("aegan_lr/*")
    run = RunFolder(path)
    used = device_hours(snapshot(run))
    more = ["search.rungs=[0.064,0.192]", "search.trials=2", "ablate.classifiers={}"]
    assert command.launch([*words, *more, f"limit.device_hours={used + 1e-6:.8f}"]) == command.AT_LIMIT
    said = capfd.readouterr()
    assert "stopped: limit.device_hours=" in said.err and "failed" not in said.err
    states = [t["state"] for c in snapshot(run).classes for t in c.trials]
    assert STOPPED in states and "failed" not in states
    assert read_json(run.jobs / "search-df.json")["limit"]
    assert command.launch([*words, *more, "limit.device_hours=1"]) == 0
    assert [t["state"] for c in snapshot(run).classes for t in c.trials] == [COMPLETED] * 2
