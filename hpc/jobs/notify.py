"""Runs the user's command `notify` when a sweep has ended, has failed or needs a decision. No torch.

On this machine the launch does it. On Slurm, where the launch is over long before, the last job to end of the
last stage does it on its node; a job that Slurm kills outright tells nobody.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from dataclasses import asdict, dataclass

from hpc.plan.sweep_plan import AFTER_SELECTION, Job, Plan, reopen, stages_of
from hpc.settings.compose import load
from hpc.stages.select import word_of
from hpc.state import submissions
from hpc.state.completion import complete
from hpc.state.generators import read_card
from hpc.state.limits import reached
from hpc.state.snapshot import Snapshot, of_plan
from hpc.state.submissions import Submission
from skin_gan.folders import RunFolder
from skin_gan.identity import content_hash
from skin_gan.io import lock, read_json, write_json
from skin_gan.words import ACCEPTED, POOR, REJECTED

ENDED, FAILED, DECIDE = "ended", "failed", "needs a decision"
SECONDS = 30.0  # a command that takes longer is killed
TOLD = "notified.json"  # in the sweep's folder: the event that the command was last run for


@dataclass(frozen=True)
class Event:
    """What has become of a sweep; the command reads it as JSON from its standard input."""

    event: str  # ENDED, FAILED or DECIDE
    message: str  # one line: the verdict, the first failure, or what is to be decided
    generators: str  # one line, `generators`
    sweep: str
    run: str  # the sweep's folder
    report: str  # the report's page; "" without one


def event_of(plan: Plan, s: Snapshot) -> Event:
    """What has become of a sweep of which no job runs."""
    page = plan.run.path / "report" / "index.html"
    event, message = state_of(plan, s)
    return Event(
        event=event, message=message, generators=generators(plan), sweep=plan.experiment.sweep,
        run=str(plan.run.path), report=str(page) if page.exists() else "",
    )  # fmt: skip


def state_of(plan: Plan, s: Snapshot) -> tuple[str, str]:
    """The event and the message of `Event`."""
    todo = [job for stage in plan.stages for job in stage.jobs if not complete(plan, job, s)]
    if not todo:
        return ENDED, (verdict(plan) or [generators(plan)])[0]
    if why := reached(plan.run):
        return DECIDE, f"{why}; launch again with a larger limit to go on"
    unusable = [] if plan.experiment.allow_rejected else by_selection(plan).get(REJECTED, [])
    if unusable and all(job.stage in AFTER_SELECTION for job in todo):
        return DECIDE, (
            f"the generators of {', '.join(unusable)} are rejected, and later stages use none: launch again "
            "with allow_rejected=true, or search longer"
        )
    errors = [f"{job.name}: {error}" for job in todo if (error := s.record(job).get("error"))]
    return FAILED, f"{len(todo)} jobs are not done; {errors[0] if errors else todo[0].name}"


def verdict(plan: Plan) -> list[str]:
    """The report's first sentences; [] without a report."""
    if not plan.experiment.ablate.classifiers:
        return []
    return list((read_json(plan.run.path / "report" / "verdict.json") or {}).get("sentences", []))


def by_selection(plan: Plan) -> dict[str, list[str]]:
    """The classes by what became of their generators: a word of the selection, or "missing"."""
    found: dict[str, list[str]] = {}
    for label in plan.experiment.classes:
        card = read_card(plan.run.best(label))
        found.setdefault(word_of(card) if card else "missing", []).append(label)
    return found


def generators(plan: Plan) -> str:
    """How many generators were accepted, and the classes of the others, on one line."""
    found = by_selection(plan)
    parts = [f"{len(found.get(ACCEPTED, []))} of {len(plan.experiment.classes)} {ACCEPTED}"]
    parts += [f"{word}: {', '.join(found[word])}" for word in (POOR, REJECTED, "missing") if word in found]
    return f"Generators: {'; '.join(parts)}."


def notify(plan: Plan) -> str:
    """Run the command once for what has become of the sweep; returns a line about it, "" if it was not run.

    Whatever the command does, nothing is raised: the sweep is not to suffer from it.
    """
    if not plan.experiment.notify:
        return ""
    try:
        s = of_plan(plan)
        event = event_of(plan, s)
        ends = {name: record.get("ended") for name, record in s.records.items()}
        identity = content_hash([event.event, ends])
        path = plan.run.path / TOLD
        with lock(path.with_suffix(".lock"), wait=SECONDS) as held:
            if held is None or (read_json(path) or {}).get("id") == identity:
                return ""
            write_json(path, {"id": identity, **asdict(event)})  # before it runs: at most once
        why = run_command(plan.experiment.notify, event)
    except Exception as e:
        why = f"{type(e).__name__}: {e}"
    return f"notify: {why}: {plan.experiment.notify}" if why else f"notified: {event.event}"


def run_command(command: str, event: Event, seconds: float = SECONDS) -> str:
    """Run a shell command with the event on its standard input and in SKIN_GAN_ variables.

    Returns why it failed, "" if it did not. It and all it has started are killed after `seconds`.
    """
    variables = {f"SKIN_GAN_{key.upper()}": value for key, value in asdict(event).items()}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:  # a pipe could block
        given.write(json.dumps(asdict(event)).encode())
        given.seek(0)
        process = subprocess.Popen(
            command, shell=True, start_new_session=True, env={**os.environ, **variables},
            stdin=given, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"killed, since it did not end within {seconds:g} s"
        said.seek(0)
        last = said.read().decode(errors="replace").strip().splitlines()[-1:]
    return f"exit code {code}{''.join(f' ({line[:200]})' for line in last)}" if code else ""


def notify_if_last(run: RunFolder, stage: str) -> None:
    """Called at the end of a Slurm job: notify if it was the last to end of the sweep's last stage."""
    try:
        e = load(run.settings)
        if not e.notify or e.profile.kind != "slurm" or stages_of(e)[-1].name != stage:
            return
        plan, submitted = reopen(run), submissions.latest(run)
        if all(has_ended(run, job, submitted.get(job.name)) for job in plan.stages[-1].jobs):
            print(notify(plan), flush=True)
    except Exception as error:
        print(f"notify: {type(error).__name__}: {error}", flush=True)


def has_ended(run: RunFolder, job: Job, given: Submission | None) -> bool:
    """Whether a job has ended, and will not go on as a stopped one does; `given`: its last submission."""
    record = read_json(run.jobs / f"{job.name}.json") or {}
    over = record.get("state") in ("done", "failed") or record.get("limit")
    return bool(over) and (given is None or record.get("slurm") == given.id)
