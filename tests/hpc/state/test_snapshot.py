"""A launch reads each file of a sweep once, and judges by what it has read."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from plans import WORDS, launched, plan_of

from hpc.cli import launch, status
from hpc.cluster import executor, reconcile
from hpc.plan.sweep_plan import PREPARE, SEARCH, SELECT, Job, Plan
from hpc.settings.compose import save
from hpc.slurm import client
from hpc.state.completion import complete, inputs
from hpc.state.snapshot import of_jobs, of_plan, snapshot
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, RUNNING
from skin_gan.io import write_json

TRIALS = 100  # of each of three classes
_opened: Counter[str] | None = None


def _count(event: str, args: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(args[0], str | Path):
        _opened[str(args[0])] += 1


sys.addaudithook(_count)  # Python has no way to take one off again


@contextmanager
def opened(folder: Path) -> Iterator[Counter[str]]:
    """Counts how often each file in the folder is opened in the block, by its path."""
    global _opened
    _opened, counted = Counter(), Counter()
    try:
        yield counted
    finally:
        counted.update({k: n for k, n in _opened.items() if k.startswith(f"{folder}/")})
        _opened = None


def ended(results: Path, *words: str) -> Plan:
    """A sweep of three classes all of whose jobs and trials have ended."""
    plan = plan_of(results, f"search.trials={TRIALS}", "cluster=local", *words)
    plan.run.jobs.mkdir(parents=True)
    save(plan.experiment, plan.run.settings)
    write_json(plan.run.provenance, {"data": {"fingerprint": plan.data}})
    last = plan.experiment.search.rungs[-1]
    for label in plan.experiment.classes:
        for _, folder in plan.trials(label):
            state = {"state": COMPLETED, "reason": "", "kimg": last, "best_kid": 50.0}
            folder.path.mkdir(parents=True)
            folder.state_file.write_text(json.dumps(state))
    plan.run.leaderboard.touch()
    s = snapshot(plan.run)
    for job in (job for stage in plan.stages for job in stage.jobs):
        done = {"state": "done", "slurm": "", "classes": plan.experiment.classes}
        (plan.run.jobs / f"{job.name}.json").write_text(json.dumps({**done, "inputs": inputs(plan, job, s)}))
    return plan


@pytest.mark.parametrize("backend", ["ray", "array"])
def test_a_launch_opens_each_file_of_a_sweep_once(tmp_path, capsys, backend):
    grid = (f"backend={backend}", "search.scheduler=none")
    plan = ended(tmp_path, *grid)
    words = [*WORDS, *grid, "classes=[df,nv,vasc]", f"results={tmp_path}", f"search.trials={TRIALS}"]
    words.append("cluster=local")
    records = len([job for stage in plan.stages for job in stage.jobs])
    for more in ((), ("dry_run=true",)):
        with opened(plan.run.path) as files:
            assert launch.launch([*words, *more]) == 0
        assert ("nothing left to do" in capsys.readouterr().out) is not bool(more)
        states = {name: n for name, n in files.items() if name.endswith("/state.json")}
        assert len(states) == 3 * TRIALS and set(states.values()) == {1}
        read = {name: n for name, n in files.items() if Path(name).parent == plan.run.jobs}
        assert len(read) == records and set(read.values()) == {1}
        assert files[str(plan.run.settings)] <= 2, "settled settings, and those of the last launch"


def test_status_opens_each_file_of_a_sweep_once(tmp_path, capsys):
    plan = ended(tmp_path)
    with opened(plan.run.path) as files:
        assert status.status([str(plan.run.path)]) == 0
    assert f"{TRIALS}/{TRIALS}" in capsys.readouterr().out
    assert len(files) >= 3 * TRIALS and set(files.values()) == {1}


def test_a_snapshot_stays_what_it_was_when_the_folder_changes(tmp_path):
    plan = ended(tmp_path)
    s, (_, folder) = of_plan(plan), plan.trials("nv")[3]
    jobs = [job for stage in plan.stages for job in stage.jobs]
    assert all(complete(plan, job, s) for job in jobs)
    folder.update(state=RUNNING)
    (plan.run.jobs / "prepare.json").unlink()
    plan.run.leaderboard.unlink()
    with opened(plan.run.path) as files:
        assert all(complete(plan, job, s) for job in jobs)
    assert not files
    later = of_plan(plan)
    left = [job.name for job in jobs if not complete(plan, job, later)]
    assert left == ["prepare", "search-nv", "select"]


def test_a_snapshot_for_some_jobs_reads_no_more_than_they_are_judged_by(tmp_path):
    plan = ended(tmp_path)
    # A search is judged by its trials, a selection by its record and all trials.
    for job, files_read in ((Job(PREPARE), 1), (Job(SEARCH, "df"), TRIALS), (Job(SELECT), 3 * TRIALS + 1)):
        with opened(plan.run.path) as files:
            assert complete(plan, job, of_jobs(plan, [job]))
        assert sorted(files.values()) == [1] * files_read


def test_a_damaged_trial_stops_a_launch_that_depends_on_it_by_its_name(tmp_path):
    plan = launched(tmp_path, "cluster=local")
    state = plan.trials("df")[1][1]
    state.path.mkdir(parents=True)
    state.state_file.write_text('{"state": "comp')
    s = of_plan(plan)
    assert [t["state"] for t in s.classes[0].trials] == ["failed", "pending"]  # a display passes over it
    assert complete(plan, Job(SEARCH, "df"), s) is False  # the trial before it has not ended
    plan.trials("df")[0][1].update(state=COMPLETED, kimg=plan.experiment.search.rungs[-1])
    with pytest.raises(SkinGanError, match=str(state.state_file)):
        complete(plan, Job(SEARCH, "df"), of_plan(plan))


def test_a_later_stage_of_a_launch_is_judged_by_what_the_one_before_has_made(tmp_path, monkeypatch):
    plan = ended(tmp_path)
    (plan.run.jobs / "search-df.json").unlink()
    _, folder = plan.trials("df")[0]
    folder.update(state=RUNNING)
    ran, looks = [], []

    def run_jobs(plan: Plan, jobs: list[Job], *_: object) -> list[str]:
        ran.extend(job.name for job in jobs)
        if jobs:
            folder.update(state=COMPLETED, best_kid=40.0)  # better: another selection
        return []

    def of_some(plan: Plan, jobs: list[Job]) -> object:
        looks.append([job.name for job in jobs])
        return of_jobs(plan, jobs)

    monkeypatch.setattr(executor, "run_jobs", run_jobs)
    monkeypatch.setattr(executor, "of_jobs", of_some)
    jobs = [job for stage in plan.stages for job in stage.jobs]
    assert not executor.run_local(plan, jobs, Path("/code"), lambda: None, of_plan(plan))
    assert ran == ["search-df", "select"]
    assert looks == [["select"]]  # before that the launch's own snapshot served


def test_slurm_is_asked_before_records_are_read(tmp_path, monkeypatch):
    plan = launched(tmp_path)
    monkeypatch.setattr(client, "use", lambda *_: None)

    def queue(*_: object) -> dict[str, client.Queued]:
        write_json(plan.run.jobs / "prepare.json", {"state": "done"})  # the job ends meanwhile
        return {}

    monkeypatch.setattr(client, "queue", queue)
    assert reconcile.read_sweep(plan)[1].record(Job(PREPARE)) == {"state": "done"}
    monkeypatch.setattr(client, "queue", lambda *_: (_ for _ in ()).throw(SkinGanError("no Slurm")))
    with pytest.raises(client.Unreachable, match="no Slurm"):
        reconcile.read_sweep(plan)
