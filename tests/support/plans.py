"""Plans of a short sweep on the built-in data, and sweeps on disk as a launch leaves them."""

from __future__ import annotations

from pathlib import Path

from hpc.plan.sweep_plan import Plan, make_plan
from hpc.settings.compose import compose, save
from skin_gan.data.resolve import describe
from skin_gan.io import write_json

WORDS = ("sweep=aegan_lr", "data=demo", "budget=micro")


def plan_of(results: Path, *words: str) -> Plan:
    """For one_gpu and three classes, where the words do not say otherwise."""
    e = compose([*WORDS, "classes=[df,nv,vasc]", "cluster=one_gpu", f"results={results}", *words])
    return make_plan(e, describe(e.data, results))


def launched(results: Path, *words: str) -> Plan:
    """A sweep of one class that was launched, and of whose two trials one failed."""
    plan = plan_of(results, "classes=[df]", "search.trials=2", *words)
    plan.run.jobs.mkdir(parents=True)
    save(plan.experiment, plan.run.settings)
    write_json(plan.run.provenance, {"data": {"fingerprint": plan.data}})
    plan.trials("df")[0][1].update(state="failed", reason="a bad batch", kimg=0.5)
    return plan
