"""Plans of a short sweep on the built-in data, and sweeps on disk as a launch leaves them."""

from __future__ import annotations

from pathlib import Path

from hpc.plan.sweep_plan import Job, Plan, make_plan
from hpc.settings.compose import compose, save
from hpc.state import completion
from hpc.state.snapshot import of_jobs
from skin_gan.data.resolve import describe
from skin_gan.io import write_json

WORDS = ("sweep=aegan_lr", "data=demo", "budget=micro", "classes=[df,nv,vasc]")
# What slurmstepd writes of every job that ends early.
STEP = "slurmstepd: error: *** STEP 103.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***"


def plan_of(results: Path, *words: str) -> Plan:
    """For one_gpu and three classes, where the words do not say otherwise."""
    e = compose([*WORDS, "cluster=one_gpu", f"results={results}", *words])
    return make_plan(e, describe(e.data, results))


def launched(results: Path, *words: str) -> Plan:
    """A sweep of one class that was launched, and of whose two trials one failed."""
    plan = plan_of(results, "classes=[df]", "search.trials=2", *words)
    plan.run.jobs.mkdir(parents=True)
    save(plan.experiment, plan.run.settings)
    write_json(plan.run.provenance, {"data": {"fingerprint": plan.data}})
    plan.trials("df")[0][1].update(state="failed", reason="a bad batch", kimg=0.5)
    return plan


def complete(plan: Plan, job: Job) -> bool:
    """Whether the job is complete by what is on disk now."""
    return completion.complete(plan, job, of_jobs(plan, [job]))
