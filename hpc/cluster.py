"""Where jobs run. The only module that imports Submitit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import submitit

from hpc.config import Experiment
from hpc.jobs import Task
from hpc.plan import PREPARE, SEARCH, Job, Plan, unfinished
from skin_gan.run import locked, read_json

# Submitit's local jobs must have a time limit; this machine has none.
A_YEAR = 365 * 24 * 60


def cores() -> int:
    """Cores this process may use (a cpuset may leave fewer than the machine has)."""
    return len(os.sched_getaffinity(0))


def slots(e: Experiment) -> int:
    """Trials that this machine trains at a time."""
    return e.profile.slots or e.profile.gpus or max(1, cores() // e.operations.threads)


def complete(plan: Plan, job: Job) -> bool:
    """Whether the job has nothing left to do, judged by what is on disk."""
    record = read_json(plan.run.jobs / f"{job.name}.json") or {"state": "none"}
    if job.stage == SEARCH:
        last = plan.experiment.search.rungs[-1]
        return not any(unfinished(folder.state(), last) for _, folder in plan.trials(job.label))
    if record["state"] != "done":
        return False
    if job.stage == PREPARE:
        return True
    changed = [plan.run.settings.stat().st_mtime]
    changed += [f.state().get("updated", 0.0) for c in plan.experiment.classes for _, f in plan.trials(c)]
    return plan.run.leaderboard.exists() and record["ended"] > max(changed)


def run_local(plan: Plan, watch: Callable[[], None]) -> list[str]:
    """Run the plan's stages on this machine, as many jobs at a time as it has slots for.

    Calls `watch` several times a second. Returns a line for each job that failed; later stages still run, on
    what there is. Ctrl-C, or any exception from `watch`, stops the jobs; everything on disk stays usable.
    """
    failures = []
    for stage in plan.stages:
        jobs = [job for job in stage.jobs if not complete(plan, job)]
        failures += run_jobs(plan, jobs, slots(plan.experiment), watch)
    return failures


def run_jobs(plan: Plan, waiting: list[Job], total: int, watch: Callable[[], None]) -> list[str]:
    """Run the jobs of one stage: one slot each, or more where there are fewer jobs than slots."""
    at_once = min(total, len(waiting))
    running: dict[Job, submitit.Job[None]] = {}
    failures = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running[job] = submit_local(plan, job, total // at_once)
            watch()
            time.sleep(0.2)
            for job in [j for j in running if running[j].done()]:
                log = running.pop(job).paths.stderr
                record = read_json(plan.run.jobs / f"{job.name}.json") or {}
                if record.get("state") != "done":
                    failures.append(f"{job.name}: {record.get('error') or 'it was killed'} (log: {log})")
    finally:
        stop(plan, running)
    return failures


def submit_local(plan: Plan, job: Job, share: int) -> submitit.Job[None]:
    executor = submitit.LocalExecutor(folder=plan.run.jobs / job.name)
    executor.update_parameters(timeout_min=A_YEAR, gpus_per_node=plan.experiment.profile.gpus)
    return executor.submit(Task(str(plan.run.path), job.stage, job.label, share))


def stop(plan: Plan, running: dict[Job, submitit.Job[None]], seconds: float = 40.0) -> None:
    """Interrupt the jobs and wait until none of their processes is left: each holds its job's lock."""
    for job in running.values():
        job.cancel()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(locked(plan.run.jobs / f"{job.name}.lock") for job in running):
        time.sleep(0.1)
