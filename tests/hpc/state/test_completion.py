"""A stage is done if it has read what there is now, whatever the clocks of the nodes say."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from plans import complete, launched
from rich.console import Console

from hpc.cli import launch
from hpc.cluster import executor, reconcile
from hpc.plan.sweep_plan import FOLDS, PREPARE, SELECT, Job, Plan
from hpc.state.completion import inputs, of_earlier_version, target
from hpc.state.records import record
from hpc.state.snapshot import of_jobs, of_plan
from skin_gan.folders import COMPLETED, RunFolder
from skin_gan.io import read_json, write_json

HEAD = "ablate.classifiers.head={arms: [real, best], seeds: 1, steps: 10}"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A sweep whose trials have ended, with an ablation over two folds."""
    plan = launched(tmp_path, HEAD, "ablate.folds=[0,1]")
    for number, (_, folder) in enumerate(plan.trials("df")):
        folder.update(state=COMPLETED, reason="", kimg=9.0, kid=50.0 + number, best_kid=50.0 + number)
    plan.run.leaderboard.touch()
    return plan


def run(plan: Plan, stage: str, clock: float, monkeypatch: pytest.MonkeyPatch, label: str = "") -> Job:
    """A job runs and ends well, on a node whose clock stands at `clock`."""
    job = Job(stage, label)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: clock)
        with record(plan.run, job.name) as tell:
            read = inputs(plan, job, of_jobs(plan, [job]))
            tell(target=target(plan, stage), classes=plan.experiment.classes, inputs=read)
    return job


def test_clocks_that_differ_neither_repeat_a_stage_nor_hide_that_it_is_stale(plan, monkeypatch):
    select = run(plan, SELECT, 5000.0, monkeypatch)
    folds = run(plan, FOLDS, 1000.0, monkeypatch, "df")  # an hour before, by its node's clock
    assert complete(plan, select) and complete(plan, folds)
    run(plan, SELECT, 10.0, monkeypatch)  # again, on a node whose clock is further behind
    assert complete(plan, select) and not complete(plan, folds)
    run(plan, FOLDS, 1.0, monkeypatch, "df")
    assert complete(plan, folds)


def test_the_selection_is_stale_when_a_trial_has_come_further_and_only_then(plan, monkeypatch):
    select = run(plan, SELECT, time.time() + 5.0, monkeypatch)
    _, folder = plan.trials("df")[1]
    folder.update(images_per_second=31.0, waiting="")  # and when it was written
    assert complete(plan, select)
    state = folder.state()
    for change in ({"kimg": 12.0}, {"best_kid": 40.0}, {"state": "failed"}):
        folder.update(**change)
        assert not complete(plan, select), change
        folder.update(**{key: state[key] for key in change})
        assert complete(plan, select)
    plan.run.leaderboard.unlink()
    assert not complete(plan, select)


def test_of_the_settings_those_count_that_a_stage_reads(plan, monkeypatch):
    select, folds = run(plan, SELECT, 1.0, monkeypatch), run(plan, FOLDS, 2.0, monkeypatch, "df")
    e = plan.experiment
    other = replace(plan, experiment=replace(e, ablate=replace(e.ablate, balance=2.0)))
    assert complete(other, select) and not complete(other, folds)
    other = replace(plan, experiment=replace(e, select=replace(e.select, min_coverage=0.9)))
    assert not complete(other, select) and not complete(other, folds)


def test_a_stage_is_not_done_while_one_before_it_runs_or_has_vanished(plan, monkeypatch):
    run(plan, SELECT, 1.0, monkeypatch)
    folds = run(plan, FOLDS, 2.0, monkeypatch, "df")
    entry = read_json(plan.run.jobs / "select.json")
    write_json(plan.run.jobs / "select.json", {k: v for k, v in entry.items() if k != "ended"})
    assert not complete(plan, folds)
    (plan.run.jobs / "select.json").unlink()
    assert not complete(plan, folds)
    write_json(plan.run.jobs / "select.json", entry)
    assert complete(plan, folds)


def test_another_sweeps_generator_that_was_replaced_is_judged_again(plan, tmp_path, monkeypatch):
    other = RunFolder(tmp_path / "other")
    other.best("df").mkdir(parents=True)
    other.settings.touch()
    card = other.best("df") / "generator.yaml"
    card.write_text("trial: 0001-a\n")
    e = plan.experiment
    plan = replace(plan, experiment=replace(e, ablate=replace(e.ablate, sources={"dcgan": str(other.path)})))
    run(plan, SELECT, 1.0, monkeypatch)
    folds = run(plan, FOLDS, 2.0, monkeypatch, "df")
    assert complete(plan, folds)
    card.write_text("trial: 0002-b\n")
    assert not complete(plan, folds)


def test_records_of_an_earlier_version_are_opened_and_their_stages_done_again_with_one_line(
    plan, monkeypatch, capsys
):
    for name in ("select", "folds-df"):
        old = {"state": "done", "started": 1.0, "ended": 2.0, "target": target(plan, FOLDS)}
        write_json(plan.run.jobs / f"{name}.json", old)
    jobs = Job(SELECT), Job(FOLDS, "df")
    assert all(of_earlier_version(job, of_plan(plan)) and not complete(plan, job) for job in jobs)
    local = replace(plan.experiment, profile=replace(plan.experiment.profile, kind="local"))
    monkeypatch.setattr(executor, "run_local", lambda *_: [])
    local = replace(plan, experiment=local)
    launch.carry_out(Console(width=200), local, Path("/code"), *reconcile.read_sweep(local))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "earlier version" in line]
    assert "select and 1 more jobs" in line
    run(plan, SELECT, 3.0, monkeypatch)
    assert not of_earlier_version(Job(SELECT), of_plan(plan)) and complete(plan, Job(SELECT))


def test_prepare_is_done_again_where_a_later_stage_reads_more_features(tmp_path, plan):
    done = {"state": "done", "classes": ["df"], "features": ["df"]}
    plain = launched(tmp_path / "plain")
    for p, features, expected in (
        (plain, ["df"], True),
        (plan, ["df"], False),  # generated images are looked through for copies, of any class
        (plan, ["all"], True),
    ):
        write_json(p.run.jobs / "prepare.json", {**done, "features": features})
        assert complete(p, Job(PREPARE)) is expected
    write_json(plain.run.jobs / "prepare.json", {"state": "done", "classes": ["df"]})  # an earlier version's
    assert complete(plain, Job(PREPARE))
