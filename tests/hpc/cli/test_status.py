"""What status reads: jobs' records and sweeps' folders, damaged ones too."""

import io
from contextlib import ExitStack
from dataclasses import replace

import pytest
from plans import complete, launched
from rich.console import Console

from hpc.cli import status as status_page
from hpc.cli import steer as steer_page
from hpc.cli.progress import display, line
from hpc.cli.status import status
from hpc.cli.steer import steer
from hpc.plan.sweep_plan import reopen
from hpc.slurm import client
from hpc.state import records, submissions
from hpc.state.records import error_of, record
from hpc.state.snapshot import snapshot
from hpc.state.submissions import Submission
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import lock, read_json, read_jsonl, write_json


@pytest.fixture(autouse=True)
def empty_queue(monkeypatch):
    monkeypatch.setattr(client, "use", lambda *_: None)
    monkeypatch.setattr(client, "queue", lambda *_: {})
    monkeypatch.setattr(client, "ended", lambda ids: {})


def test_a_job_that_ended_well_has_done_all(tmp_path):
    run = RunFolder(tmp_path)
    with record(run, "generate-df") as tell:
        for done in range(6):
            tell(done=done, total=6)
    with record(run, "select"):
        pass
    entry = read_json(run.jobs / "generate-df.json")
    assert (entry["state"], entry["done"], entry["total"]) == ("done", 6, 6)
    assert "done" not in read_json(run.jobs / "select.json")


def test_a_sweep_that_cannot_be_read_does_not_hide_the_others(tmp_path, monkeypatch, capsys):
    damaged, whole = launched(tmp_path, "seed=1").run, launched(tmp_path, "seed=2").run
    (damaged.jobs / "prepare.json").write_text('{"state": "do')
    monkeypatch.setattr(status_page, "find_runs", lambda _: [damaged, whole])
    assert status([]) == 2
    said = capsys.readouterr().out
    assert f"{damaged.path}: error: {damaged.jobs / 'prepare.json'} is not valid JSON" in said
    (head,) = [line for line in said.splitlines() if f"{whole.path} (stage prepare" in line]
    assert "seed 2, fold 0, 32 pixels" in head
    assert status([str(whole.path)]) == 0
    with pytest.raises(SkinGanError, match=r"prepare\.json is not valid JSON"):
        status([str(damaged.path)])


@pytest.mark.parametrize("content", ["", "{}", "null", "[1]", '{"kimg": 1', '{"kimg": 1.0}'])
def test_of_a_damaged_trial_only_its_name_is_shown(tmp_path, content, capsys):
    plan = launched(tmp_path)
    folder = plan.trials("df")[0][1]
    folder.state_file.write_text(content)
    assert snapshot(plan.run).classes[0].count("pending") == 1
    assert status([str(plan.run.path), "--trials"]) == 0
    assert folder.path.name in capsys.readouterr().out


def test_damaged_rows_of_submissions_are_passed_over(tmp_path):
    run = launched(tmp_path).run
    submissions.add(run, Submission("prepare", "1"))
    rows = ['{"job": "search-df"}', '{"id": "2"}', "null", "{}", '{"job": "sea']
    (run.jobs / "slurm.jsonl").write_text("\n".join([*rows, (run.jobs / "slurm.jsonl").read_text()]))
    assert submissions.every(run) == [Submission("prepare", "1")]
    assert status([str(run.path)]) == 0
    assert steer(["cancel", str(run.path)]) == 0


@pytest.mark.parametrize("content", ["null", "[1]", '"x"', "{}", '{"data": null}', '{"data": {}}'])
def test_a_damaged_provenance_is_one_clear_error(tmp_path, content):
    run = launched(tmp_path).run
    run.provenance.write_text(content)
    assert status([str(run.path)]) == 0  # which does not need it
    with pytest.raises(SkinGanError, match=r"provenance\.json"):
        reopen(run)


def test_a_record_without_what_it_should_say_is_of_a_job_that_is_not_done(tmp_path):
    plan = launched(tmp_path)
    for stage in plan.stages:
        for job in stage.jobs:
            for entry in ({"total": 3}, {"state": "done"}, {"state": "running", "total": 3}):
                write_json(plan.run.jobs / f"{job.name}.json", entry)
                plan.run.leaderboard.touch()
                assert not complete(plan, job)
                assert status([str(plan.run.path)]) == 0
    write_json(plan.run.jobs / "search-df" / "rank-1.json", {})
    assert error_of(plan.run, "search-df", {"error": "ValueError"}) == "ValueError"
    with record(plan.run, "search-df"):
        assert read_json(plan.run.jobs / "search-df.json")["restarts"] == 1


def test_retry_names_a_failed_trial_that_does_not_say_why(tmp_path, monkeypatch, capsys):
    plan = launched(tmp_path)
    folder = plan.trials("df")[0][1]
    folder.state_file.write_text('{"state": "failed"}')
    monkeypatch.setattr(steer_page, "carry_out", lambda *_: 0)
    assert steer(["retry", str(plan.run.path)]) == 0
    assert f"df/{folder.path.name}: failed:  (will be retried)" in capsys.readouterr().out


def test_what_cannot_be_read_is_one_clear_error(tmp_path):
    with pytest.raises(SkinGanError, match="cannot read"):
        read_json(tmp_path)
    with pytest.raises(SkinGanError, match="cannot read"):
        read_jsonl(tmp_path)


@pytest.mark.parametrize("cluster", ["one_gpu", "local"])
def test_a_trial_that_was_killed_is_not_shown_as_running(tmp_path, monkeypatch, capsys, cluster):
    plan = launched(tmp_path, f"cluster={cluster}")
    plan.trials("df")[1][1].update(state="running", kimg=0.1)
    submissions.add(plan.run, Submission("search-df", "7"))
    job = client.Queued("7", "RUNNING", "", "1:00", 0, "n1", "aegan_lr-search", str(plan.run.path))

    def states() -> list[str]:
        status([str(plan.run.path), "--trials"])
        words = capsys.readouterr().out.split("\ndf\n")[1].split()
        return [word for word in words if word in ("running", "stopped")]

    assert states() == ["stopped"]
    monkeypatch.setattr(client, "queue", lambda *_: {"7": job})
    with lock(plan.run.jobs / "search-df.lock"):
        assert states() == ["running"]
    assert plan.trials("df")[1][1].state()["state"] == "running"  # on disk it is what it was
    monkeypatch.setattr(client, "queue", lambda *_: {"7": replace(job, state="PENDING")})
    assert states() == ["stopped"]


@pytest.mark.parametrize("cluster", ["one_gpu", "local"])
def test_watching_ends_when_nothing_more_can_happen(tmp_path, monkeypatch, capsys, cluster):
    plan = launched(tmp_path, f"cluster={cluster}")
    looks, launch = [], ExitStack()
    launch.enter_context(lock(plan.run.path / "launch.lock"))

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if cluster == "one_gpu":  # the last job leaves the queue
            monkeypatch.setattr(client, "queue", lambda *_: {})
        else:  # the launch is stopped, with work left
            launch.close()

    monkeypatch.setattr(status_page.time, "sleep", sleep)
    submissions.add(plan.run, Submission("search-df", "7"))
    job = client.Queued("7", "RUNNING", "", "1:00", 0, "n1", "aegan_lr-search", str(plan.run.path))
    monkeypatch.setattr(client, "queue", lambda *_: {"7": job})
    assert status([str(plan.run.path), "--watch"]) == 0
    assert len(looks) == 1 and capsys.readouterr().out.count(str(plan.run.path)) == 2


def test_steering_a_sweep_of_this_machine_says_what_can_be_done(tmp_path, capsys):
    plan = launched(tmp_path, "cluster=local")
    assert steer(["cancel", str(plan.run.path)]) == 0
    assert "nothing to cancel: no launch" in capsys.readouterr().out
    with lock(plan.run.path / "launch.lock"), pytest.raises(SkinGanError, match="press Ctrl-C"):
        steer(["cancel", str(plan.run.path)])


def test_a_kid_is_shown_with_its_unit_wherever_it_is_shown(tmp_path, capsys):
    plan = launched(tmp_path)
    plan.trials("df")[0][1].update(state="completed", kid=61.25, best_kid=51.25, best_kimg=4.0)
    write_json(plan.run.jobs / "prepare.json", {"state": "done"})
    status([str(plan.run.path), "--trials"])
    shown = capsys.readouterr().out
    assert "51.2" in shown and shown.count("KID") == shown.count("KID x1000") == 3
    said = line(snapshot(plan.run), None)
    assert said.count("KID") == said.count("KID x1000") == 1


def test_what_a_stage_is_at_is_shown_while_it_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(records, "PROGRESS_SECONDS", 0.0)
    plan = launched(tmp_path, "cluster=local")
    with record(plan.run, "prepare") as tell:
        tell(done=30, total=40)
        status([str(plan.run.path)])
        assert "30/40" not in capsys.readouterr().out  # of a job that was killed the record says no more
        with lock(plan.run.path / "launch.lock"):
            status([str(plan.run.path)])
        assert "now features of real images 30/40" in capsys.readouterr().out


def test_the_live_display_has_a_row_per_class_only_while_trials_change(tmp_path):
    plan = launched(tmp_path)

    def shown() -> str:
        console = Console(width=80, file=io.StringIO())
        console.print(display(snapshot(plan.run), None))
        return console.file.getvalue()

    assert "prepare: 0/1 jobs" in shown() and "best KID x1000" not in shown()
    write_json(plan.run.jobs / "prepare.json", {"state": "done"})
    assert "best KID x1000" in shown() and "stage search" in shown() and "left about" not in shown()


def test_a_stage_of_many_jobs_says_how_long_the_rest_will_take(tmp_path):
    plan = launched(tmp_path, "ablate.classifiers.head={arms: [real, best, class_weights], seeds: 1}")
    jobs = next(stage.jobs for stage in plan.stages if stage.name == "ablate")
    for stage in plan.stages[: [stage.name for stage in plan.stages].index("ablate")]:
        for job in stage.jobs:
            write_json(plan.run.jobs / f"{job.name}.json", {"state": "done"})
    write_json(plan.run.jobs / f"{jobs[0].name}.json", {"state": "done", "started": 100.0, "ended": 160.0})
    assert "left in all" not in line(snapshot(plan.run), None)  # while no job runs
    write_json(plan.run.jobs / f"{jobs[1].name}.json", {"state": "running", "done": 1, "total": 4})
    assert f"1/{len(jobs)} jobs done; now {jobs[1].label} 1/4" in line(snapshot(plan.run), None)
    assert line(snapshot(plan.run), None).endswith("left in all about 2 min 00 s") and len(jobs) == 3
