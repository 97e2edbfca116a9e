"""`hpc/steer.py`: cancel, hold, release or retry jobs of a sweep, whole or in part. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from hpc.cli.launch import attach, carry_out, make_console
from hpc.plan.sweep_plan import SEARCH, STAGES, Plan, class_of, reopen
from hpc.slurm import client
from hpc.slurm.job_states import JobState, job_states, queued_state
from hpc.state import submissions
from hpc.state.logs import tail
from hpc.state.provenance import freeze
from skin_gan.errors import SkinGanError
from skin_gan.folders import DIVERGED, FAILED, RunFolder
from skin_gan.installation import called
from skin_gan.io import locked

MANY = 40  # jobs listed one by one; the rest are counted
# By action: the participle that is printed, and Slurm's command.
ACTIONS = {
    "cancel": ("cancelled", "scancel"),
    "hold": ("held", "scontrol hold"),
    "release": ("released", "scontrol release"),
}


def steer(arguments: list[str]) -> int:
    """Cancel, hold or release a sweep's jobs, or retry those that failed."""
    parser = argparse.ArgumentParser(prog=called("steer"), description=steer.__doc__)
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
    """A function that tells whether the job of a name is of these classes and this stage; None: of any.

    It goes by names, since the queue may hold jobs that the plan no longer has. `shared`: whether jobs that
    belong to no single class count too.
    """
    if unknown := set(labels or ()) - set(plan.experiment.classes):
        known = ", ".join(plan.experiment.classes)
        raise SkinGanError(f"unknown class {', '.join(sorted(unknown))}: choose one of {known}")

    def wanted(name: str) -> bool:
        label = class_of(name)
        return stage in (None, name.partition("-")[0]) and (label in labels if label and labels else shared)

    return wanted


def act(console: Console, plan: Plan, wanted: Callable[[str], bool], action: str) -> int:
    """Cancel, hold or release the wanted jobs in the queue, and list them."""
    from hpc.cluster.reconcile import queue_or_raise

    participle, command = ACTIONS[action]
    queue = queue_or_raise(plan)
    every = [queued_state(s, queue.alive[s.id]) for s in queue.submitted if s.id in queue.alive]
    alive = [s for s in every if wanted(s.job)]
    if action == "hold":
        # Holding a running job would hold it when it is requeued.
        alive = [s for s in alive if s.state == client.PENDING.lower()]
    others = {s.submission.base for s in every if s not in alive}
    # A whole array is named by its own id: Slurm then handles all elements at once.
    ids = dict.fromkeys(s.submission.base if s.submission.base not in others else s.id for s in alive)
    client.control(command, ids)
    for s in alive[:MANY]:
        console.print(f"{participle}: {s.job} (job {s.id}, was {s.state})", highlight=False)
    if len(alive) > MANY:
        console.print(f"{participle}: {len(alive) - MANY} more")
    if not alive:
        console.print("no such job is in the queue")
    return 0


def retry(console: Console, run: RunFolder, labels: list[str] | None, stage: str | None) -> int:
    """List the wanted jobs and trials that failed, and run or submit again those that are not finished."""
    from hpc.cluster.reconcile import read_sweep

    reopen(run)  # fails before a lock file is made in a folder that is no sweep's
    with attach(console, run):
        plan = reopen(run)
        wanted = chooser(plan, labels, stage, shared=True)
        queue, s = read_sweep(plan)
        for state in job_states(run, queue, s.records):
            if wanted(state.job) and not state.alive and state.why:
                print_failure(console, run, state)
        jobs = [job for part in plan.stages for job in part.jobs if wanted(job.name)]
        searched = {job.label for job in jobs if job.stage == SEARCH}
        for c in s.classes:
            for trial in c.trials if c.label in searched else ():
                if trial["state"] in (FAILED, DIVERGED):
                    why = trial.get("reason", "")
                    again = (
                        "will be retried" if trial["state"] == FAILED else "would diverge again: not retried"
                    )
                    name = f"{c.label}/{trial['name']}"
                    console.print(f"{name}: {trial['state']}: {why} ({again})", highlight=False)
        return carry_out(console, plan, freeze(run), queue, s, {job.name for job in jobs})


def print_failure(console: Console, run: RunFolder, state: JobState) -> None:
    """Print why a job failed, and the last lines of its log."""
    log = state.submission.log(run)
    console.print(
        f"{state.job} (job {state.id}) {state.state}: {state.why}; the end of {log}:", highlight=False
    )
    for line in tail(log, 2000).splitlines()[-5:]:
        console.print(f"    {line}", markup=False, highlight=False)
