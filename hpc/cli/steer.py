"""`hpc/steer.py`: cancel, hold, release or retry jobs of a sweep, whole or in part. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from hpc.cli.launch import attach, carry_out, make_console
from hpc.plan.sweep_plan import SEARCH, STAGES, Plan, class_of, reopen
from hpc.slurm import client
from hpc.slurm.job_states import JobState, job_states, living
from hpc.state import submissions
from hpc.state.logs import tail
from hpc.state.provenance import freeze
from skin_gan.errors import SkinGanError
from skin_gan.folders import DIVERGED, FAILED, RunFolder
from skin_gan.io import locked

MANY = 40  # jobs: of more only the number is told
ACTIONS: dict[str, tuple[str, Callable[[Iterable[str]], None]]] = {
    "cancel": ("cancelled", client.cancel),
    "hold": ("held", client.hold),
    "release": ("released", client.release),
}


def steer(arguments: list[str]) -> int:
    """`hpc/steer.py`: cancel, hold or release a sweep's jobs, or retry those that failed."""
    parser = argparse.ArgumentParser(prog="python hpc/steer.py", description=steer.__doc__)
    parser.add_argument("action", choices=[*ACTIONS, "retry"])
    parser.add_argument("run", type=Path, help="the sweep's folder")
    parser.add_argument(
        "--class", dest="labels", action="append", help="only this class's jobs; may be repeated"
    )
    parser.add_argument("--stage", choices=STAGES, help="only this stage's jobs")
    options = parser.parse_args(arguments)
    run, console = RunFolder(options.run.absolute()), make_console()
    if options.action == "retry":
        return retry(console, run, options.labels, options.stage)
    plan = reopen(run)
    if plan.experiment.profile.kind != "slurm" and not submissions.every(run):
        if locked(run.path / "launch.lock"):
            raise SkinGanError("this sweep runs on this machine: press Ctrl-C where it was launched")
        console.print(f"nothing to {options.action}: no launch of this sweep is running on this machine")
        return 0
    wanted = chooser(plan, options.labels, options.stage, shared=not options.labels)
    return act(console, plan, wanted, options.action)


def chooser(plan: Plan, labels: list[str] | None, stage: str | None, shared: bool) -> Callable[[str], bool]:
    """Whether a job of this name is of these classes and this stage; any is where neither is given.

    By names, since Slurm may still have jobs that the sweep planned before its settings were changed.
    `shared`: jobs that are of no one class count too.
    """
    if unknown := set(labels or ()) - set(plan.experiment.classes):
        known = ", ".join(plan.experiment.classes)
        raise SkinGanError(f"unknown class {', '.join(sorted(unknown))}: choose one of {known}")

    def wanted(name: str) -> bool:
        of, label = name.partition("-")[0], class_of(name)
        return stage in (None, of) and (label in labels if label and labels else shared)

    return wanted


def act(console: Console, plan: Plan, wanted: Callable[[str], bool], action: str) -> int:
    from hpc.cluster.reconcile import reached

    said, do = ACTIONS[action]
    queue = reached(plan)
    every = [living(s, queue.alive[s.id]) for s in queue.submitted if s.id in queue.alive]
    alive = [s for s in every if wanted(s.job)]
    if action == "hold":
        alive = [s for s in alive if s.state == client.PENDING.lower()]  # Slurm would hold its requeueing
    others = {s.submission.base for s in every if s not in alive}
    # A whole array by its own id: Slurm then does it at once, however many elements it has.
    do(dict.fromkeys(s.submission.base if s.submission.base not in others else s.id for s in alive))
    for s in alive[:MANY]:
        console.print(f"{said}: {s.job} (job {s.id}, was {s.state})", highlight=False)
    if len(alive) > MANY:
        console.print(f"{said}: {len(alive) - MANY} more")
    if not alive:
        console.print("no such job is in the queue")
    return 0


def retry(console: Console, run: RunFolder, labels: list[str] | None, stage: str | None) -> int:
    """Name what failed, and run or queue again what is not finished."""
    from hpc.cluster.reconcile import look

    reopen(run)  # before a lock is made in what may be no sweep's folder
    with attach(console, run):
        plan = reopen(run)
        wanted = chooser(plan, labels, stage, shared=True)
        queue, s = look(plan)
        for state in job_states(run, queue, s.records):
            if wanted(state.job) and not state.alive and state.why:
                print_failure(console, run, state)
        jobs = [job for part in plan.stages for job in part.jobs if wanted(job.name)]
        searched = {job.label for job in jobs if job.stage == SEARCH}
        for c in s.classes:
            for trial in c.trials if c.label in searched else ():
                if trial["state"] in (FAILED, DIVERGED):
                    why = trial.get("reason", "")
                    again = "tried again" if trial["state"] == FAILED else "it would diverge again: not tried"
                    name = f"{c.label}/{trial['name']}"
                    console.print(f"{name}: {trial['state']}: {why} ({again})", highlight=False)
        return carry_out(console, plan, freeze(run), queue, s, {job.name for job in jobs})


def print_failure(console: Console, run: RunFolder, state: JobState) -> None:
    log = state.submission.log(run)
    console.print(
        f"{state.job} (job {state.id}) {state.state}: {state.why}; the end of {log}:", highlight=False
    )
    for line in tail(log, 2000).splitlines()[-5:]:
        console.print(f"    {line}", markup=False, highlight=False)
