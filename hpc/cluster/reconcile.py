"""Submits the jobs that are neither complete nor queued for these settings."""

from __future__ import annotations

import time
from pathlib import Path

from hpc.cluster import executor
from hpc.plan.sweep_plan import BEFORE_SELECTION, CONFIRM, FINAL, SEARCH, Job, Plan, in_rounds
from hpc.settings.compose import Experiment
from hpc.slurm import client
from hpc.slurm.job_states import Queue, ask
from hpc.state.completion import complete, target
from hpc.state.snapshot import Record, Snapshot, of_plan
from hpc.state.submissions import Submission
from skin_gan.errors import SkinGanError
from skin_gan.installation import called

ENDING = 60.0  # seconds: Slurm gives a killed job KillWait, 30 s by default, and then runs the node's epilog


def read_sweep(plan: Plan) -> tuple[Queue, Snapshot]:
    """The sweep's queue (empty for a local profile) and its snapshot. Raises Unreachable."""
    queue = queue_or_raise(plan) if plan.experiment.profile.kind == "slurm" else Queue()
    return queue, of_plan(plan)


def queue_or_raise(plan: Plan) -> Queue:
    """The sweep's queue. Raises Unreachable if Slurm does not answer."""
    queue = ask(plan.run, plan.experiment.profile)
    if queue.trouble:
        raise client.Unreachable(queue.trouble)
    return queue


def check_place(plan: Plan, before: Experiment | None) -> None:
    """SkinGanError if jobs of this sweep are queued on another cluster than the one chosen now.

    `before`: the settings of the sweep's last launch.
    """
    now = plan.experiment
    if before is None or before.profile.kind != "slurm":
        return
    if (now.profile.kind, now.profile.conf) == ("slurm", before.profile.conf):
        return
    # Several slurm.conf files, or none, may lead to the same cluster.
    here = client.queue(plan.run.path) if now.profile.kind == "slurm" else {}
    try:
        there = ask(plan.run, before.profile)
    finally:
        client.use(now.profile)
    if elsewhere := sum(s.id in there.alive and s.id not in here for s in there.submitted):
        raise SkinGanError(
            f"{elsewhere} jobs of this sweep are in the queue of cluster={before.cluster}: launch it there, "
            f"or first cancel them: `{called('steer')} cancel {plan.run.path}`"
        )


def submit(
    plan: Plan, wanted: list[Job], code: Path, queue: Queue, s: Snapshot
) -> tuple[list[Submission], list[Submission]]:
    """Submit the wanted jobs that are neither complete nor queued, each stage after the one before it.

    Jobs that are queued or running for other settings are replaced, whether wanted or not. Returns the jobs
    that were queued or running already, and the new ones.
    """
    queue, s = wait_for_ending_jobs(plan, queue, s)
    alive, known = queue.alive, queue.latest
    before: list[Submission] = []
    new: list[Submission] = []
    chosen = set(wanted)
    for stage in plan.stages:
        live = {
            job: known[job.name] for job in stage.jobs if job.name in known and known[job.name].id in alive
        }
        stale = {
            job: given
            for job, given in live.items()
            if out_of_date(plan, job, s.record(job), alive[given.id], bool(new))
        }
        pending = [given.id for given in stale.values() if alive[given.id].state == client.PENDING]
        client.control("scancel", pending)
        kept = {job: given for job, given in live.items() if job not in stale}
        todo = [
            job
            for job in stage.jobs
            if (job in chosen or job in stale)
            and job not in kept
            and (not complete(plan, job, s) or will_be_outdated(job, before))
        ]
        running = [given for given in stale.values() if alive[given.id].state != client.PENDING]
        earlier = kept.values() if in_rounds(plan.experiment, stage.name) else ()
        made = executor.submit_stage(plan, stage, todo, code, after=[*before, *running, *earlier])
        before += [*kept.values(), *running, *made]
        new += made
    made_now = set(new)
    return [given for given in before if given not in made_now], new


def wait_for_ending_jobs(plan: Plan, queue: Queue, s: Snapshot) -> tuple[Queue, Snapshot]:
    """Wait at most `ENDING` until Slurm has ended or requeued the jobs it is cleaning up; then read again."""
    deadline, now = time.monotonic() + ENDING, queue
    while (ending := now.ending) and time.monotonic() < deadline:
        if now is queue:
            print(f"waiting for Slurm to end or requeue jobs ({ending})", flush=True)
        time.sleep(2.0)
        now = queue_or_raise(plan)
    return now, s if now is queue else of_plan(plan)


def out_of_date(plan: Plan, job: Job, record: Record, queued: client.Queued, renewed: bool) -> bool:
    """Whether a queued or running job would miss work that is wanted now, so that another must follow it.

    `renewed`: whether jobs of earlier stages have been submitted.
    """
    if renewed and job.stage not in BEFORE_SELECTION:
        return True  # it must wait for the new jobs too
    if queued.state == client.COMPLETING:
        return True  # Slurm is cleaning up: the job has ended, perhaps with work left
    running = queued.state != client.PENDING and record.get("state") == "running"
    longer = job.stage in (SEARCH, CONFIRM, FINAL) and record.get("target") != target(plan, job.stage)
    return longer and running


def will_be_outdated(job: Job, before: list[Submission]) -> bool:
    """Whether jobs before this one will invalidate its results."""
    return job.stage not in BEFORE_SELECTION and bool(before)
