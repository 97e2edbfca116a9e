"""The command `notify`: told once of what became of a sweep, and harmless whatever it does."""

import json
import time

import pytest
from plans import launched

from hpc.jobs import notify as module
from hpc.jobs.notify import DECIDE, ENDED, FAILED, event_of, notify, notify_if_last, run_command
from hpc.plan.sweep_plan import REPORT, SELECT, Plan
from hpc.settings.compose import load, save
from hpc.state import submissions
from hpc.state.snapshot import of_plan
from hpc.state.submissions import Submission
from skin_gan.generator import CARD
from skin_gan.io import write_atomic, write_json

HOOK = """\
#!/bin/sh
{ cat; echo; echo "$SKIN_GAN_EVENT|$SKIN_GAN_MESSAGE|$SKIN_GAN_RUN"; } >> "$(dirname "$0")/told.txt"
"""
HEAD = "ablate.classifiers.head={arms: [real, best], seeds: 1}"


@pytest.fixture
def sweep(tmp_path):
    """A sweep whose hook, a script, appends what it gets to told.txt."""

    def make(*words: str) -> Plan:
        (tmp_path / "hook.sh").write_text(HOOK)
        return launched(tmp_path, "cluster=local", f"notify=sh '{tmp_path}/hook.sh'", *words)

    return make


def told(plan: Plan) -> list[str]:
    """The lines that the hook has written: two for each time it was run."""
    path = plan.run.path.parents[1] / "told.txt"
    return path.read_text().splitlines() if path.exists() else []


def end(plan: Plan, monkeypatch: pytest.MonkeyPatch, *, todo: tuple[str, ...] = (), error: str = "") -> None:
    """All jobs have ended; those of the stages `todo` have failed, where there is an error."""
    for stage in plan.stages:
        for job in stage.jobs:
            failed = {"state": "failed", "error": error} if job.stage in todo else {"state": "done"}
            write_json(plan.run.jobs / f"{job.name}.json", {**failed, "ended": 1.0})
    monkeypatch.setattr(module, "complete", lambda plan, job, s: job.stage not in todo)


def choose(plan: Plan, accepted: bool) -> None:
    """The class's generator was selected."""
    reasons = [] if accepted else ["coverage: 0.1"]
    card = {"format": 1, "label": "df", "accepted": accepted, "reasons": reasons}
    write_atomic(plan.run.best("df") / CARD, json.dumps(card))


def test_a_script_of_the_user_is_told_once_that_the_sweep_has_ended(sweep, monkeypatch):
    plan = sweep()
    end(plan, monkeypatch)
    choose(plan, True)
    assert notify(plan) == f"notified: {ENDED}"
    given, variables = told(plan)
    said = "Generators: 1 of 1 accepted."
    assert variables == f"{ENDED}|{said}|{plan.run.path}"
    assert json.loads(given) == {
        "event": ENDED, "message": said, "generators": said, "sweep": "aegan_lr", "run": str(plan.run.path),
        "report": "",
    }  # fmt: skip
    assert notify(plan) == "" and len(told(plan)) == 2, "the same launch again"
    write_json(plan.run.jobs / "select.json", {"state": "done", "ended": 2.0})
    assert notify(plan) and len(told(plan)) == 4, "it was extended, and has ended again"


def test_what_the_message_says(sweep, monkeypatch):
    plan = sweep(HEAD, "allow_rejected=false")
    end(plan, monkeypatch)
    choose(plan, False)
    write_json(plan.run.path / "report" / "verdict.json", {"sentences": ["Not resolved: few.", "And more."]})
    (plan.run.path / "report" / "index.html").touch()
    event = event_of(plan, of_plan(plan))
    assert (event.event, event.message) == (ENDED, "Not resolved: few.")
    assert event.generators == "Generators: 0 of 1 accepted; rejected: df."
    assert event.report == str(plan.run.path / "report" / "index.html")
    end(plan, monkeypatch, todo=("generate", "ablate", "report"), error="a generator was not accepted")
    event = event_of(plan, of_plan(plan))
    assert event.event == DECIDE and "generators of df are rejected" in event.message
    end(plan, monkeypatch, todo=("search", "generate"), error="no space left")
    event = event_of(plan, of_plan(plan))
    assert (event.event, event.message) == (FAILED, "2 jobs are not done; search-df: no space left")
    monkeypatch.setattr(module, "reached", lambda run: "limit.disk=1 is reached")
    event = event_of(plan, of_plan(plan))
    assert event.event == DECIDE and event.message.startswith("limit.disk=1 is reached; launch again")


@pytest.mark.parametrize(
    ("command", "says"),
    [("echo no such room >&2; exit 3", "exit code 3 (no such room)"), ("/no/such/command", "exit code 127")],
)
def test_a_hook_that_fails_is_one_line(sweep, monkeypatch, command, says):
    plan = sweep()
    end(plan, monkeypatch)
    plan.experiment.notify = command
    said = notify(plan)
    assert said.startswith(f"notify: {says}") and command in said and "\n" not in said


def test_a_hook_that_hangs_is_killed_with_all_it_has_started(sweep, tmp_path):
    event = event_of(plan := sweep(), of_plan(plan))
    late, began = tmp_path / "late", time.monotonic()
    assert "did not end within 0.3 s" in run_command(f"(sleep 1.5; touch '{late}') & sleep 60", event, 0.3)
    assert time.monotonic() - began < 1.4
    time.sleep(1.6)
    assert not late.exists()
    assert run_command("sleep 60 &", event, 5.0) == ""  # what it leaves behind is not waited for


def test_nothing_is_raised_whatever_is_damaged(sweep, monkeypatch):
    plan = sweep()
    (plan.run.jobs / "prepare.json").write_text('{"state": "do')
    assert "prepare.json is not valid JSON" in notify(plan)
    plan.run.settings.write_text("][")
    notify_if_last(plan.run, SELECT)


def test_on_slurm_the_last_job_to_end_tells(sweep, monkeypatch):
    plan = sweep(HEAD, "cluster=one_gpu")
    end(plan, monkeypatch)
    notify_if_last(plan.run, SELECT)
    assert told(plan) == []
    submissions.add(plan.run, Submission("report", "12"))
    notify_if_last(plan.run, REPORT)
    assert told(plan) == [], "its last submission is still in the queue"
    for state, times in (("running", 0), ("stopped", 0), ("done", 1), ("done", 1)):
        write_json(plan.run.jobs / "report.json", {"state": state, "slurm": "12", "ended": 3.0})
        notify_if_last(plan.run, REPORT)
        assert len(told(plan)) == 2 * times
    e = load(plan.run.settings)
    e.profile.kind = "local"  # where the launch tells
    save(e, plan.run.settings)
    write_json(plan.run.jobs / "report.json", {"state": "done", "slurm": "12", "ended": 4.0})
    notify_if_last(plan.run, REPORT)
    assert len(told(plan)) == 2
