"""`hpc/steer.py`: cancel, hold, release or retry jobs of a sweep, whole or in part. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from hpc import slurm
from hpc.cli import carry_out, make_console
from hpc.jobstates import JobState, job_states, tail
from hpc.plan import SEARCH, STAGES, Plan, reopen
from hpc.progress import Snapshot, snapshot
from hpc.provenance import freeze
from skin_gan.errors import SkinGanError
from skin_gan.run import DIVERGED, FAILED, RunFolder

MANY = 40  # jobs: of more only the number is told
ACTIONS: dict[str, tuple[str, Callable[[Iterable[str]], None]]] = {
    "cancel": ("cancelled", slurm.cancel),
    "hold": ("held", slurm.hold),
    "release": ("released", slurm.release),
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
    plan, console = reopen(RunFolder(options.run.absolute())), make_console()
    if unknown := set(options.labels or ()) - set(plan.experiment.classes):
        known = ", ".join(plan.experiment.classes)
        raise SkinGanError(f"unknown class {', '.join(sorted(unknown))}: choose one of {known}")
    if options.action == "retry":
        return retry(console, plan, wanted(plan, options.labels, options.stage))
    if plan.experiment.profile.kind != "slurm":
        raise SkinGanError("this sweep runs on this machine: press Ctrl-C where it was launched")
    names = wanted(plan, options.labels, options.stage, shared=not options.labels)
    return act(console, plan, names, options.action)


def wanted(plan: Plan, labels: list[str] | None, stage: str | None, shared: bool = True) -> set[str]:
    """Names of the jobs of these classes and this stage; with those that all classes share, or without."""
    jobs = [job for s in plan.stages for job in s.jobs if stage in (None, s.name)]
    return {job.name for job in jobs if (job.label in (labels or [job.label]) if job.label else shared)}


def states_of(plan: Plan, s: Snapshot) -> list[JobState]:
    """The states of the sweep's jobs. SkinGanError if Slurm cannot be asked."""
    states, trouble = job_states(plan.run, plan.experiment.profile, s.jobs)
    if trouble:
        raise SkinGanError(trouble.removeprefix("from disk alone: "))
    return states


def act(console: Console, plan: Plan, names: set[str], action: str) -> int:
    said, do = ACTIONS[action]
    every = [s for s in states_of(plan, snapshot(plan.run)) if s.alive]
    alive = [s for s in every if s.job in names]
    if action == "hold":
        alive = [s for s in alive if s.state == slurm.PENDING.lower()]  # Slurm would hold its requeueing
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


def retry(console: Console, plan: Plan, names: set[str]) -> int:
    """Name what failed, and run or queue again what is not finished."""
    s = snapshot(plan.run)
    if plan.experiment.profile.kind == "slurm":
        for state in states_of(plan, s):
            if state.job in names and not state.alive and state.why:
                print_failure(console, plan.run, state)
    labels = {j.label for stage in plan.stages for j in stage.jobs if j.stage == SEARCH and j.name in names}
    for c in s.classes:
        for trial in c.trials if c.label in labels else ():
            if trial["state"] in (FAILED, DIVERGED):
                again = "tried again" if trial["state"] == FAILED else "it would diverge again: not tried"
                console.print(f"{c.label}/{trial['name']}: {trial['state']}: {trial['reason']} ({again})",
                              highlight=False)  # fmt: skip
    return carry_out(console, plan, freeze(plan.run), names)


def print_failure(console: Console, run: RunFolder, state: JobState) -> None:
    log = state.submission.log(run)
    console.print(
        f"{state.job} (job {state.id}) {state.state}: {state.why}; the end of {log}:", highlight=False
    )
    for line in tail(log, 2000).splitlines()[-5:]:
        console.print(f"    {line}", markup=False, highlight=False)
