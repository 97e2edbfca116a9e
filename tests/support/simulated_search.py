"""Searches in which evaluations are computed from the settings: all is real but training and Ray."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from hpc.plan.sweep_plan import Plan, proposals
from hpc.search import ray_tune
from hpc.search.runner import Runner
from hpc.settings.space import adaptive
from skin_gan.config import TrialSpec
from skin_gan.folders import RUNNING, TrialFolder
from skin_gan.io import append_jsonl, read_jsonl

Evaluation = Callable[[TrialSpec, float], dict[str, Any]]  # of a trial at a number of kimg


class Killed(Exception):
    """The search was killed here."""


def by_rates(spec: TrialSpec, kimg: float) -> dict[str, Any]:
    """A KID that is lowest at lr_g = 3e-4 and lr_d = 1e-4, and falls with training; all constraints kept."""
    o = spec.settings.optim
    away = math.log(o.lr_g / 3e-4) ** 2 + math.log(o.lr_d / 1e-4) ** 2
    return {"kid": 10 * away + 100 / kimg, "coverage": 0.9, "coverage_floor": 1.0, "copies": 0.0}


class Session:
    """In place of a training session. A trial that has begun goes on from its last evaluation."""

    main = False  # so that no judge is asked for

    def __init__(self, plan: Plan, spec: TrialSpec, folder: TrialFolder, evaluation: Evaluation) -> None:
        self.spec, self.folder, self.evaluation = spec, folder, evaluation
        recorded = {line["index"] for line in read_jsonl(proposals(plan.run, spec.label))}
        if adaptive(plan.experiment.search.sampler):
            assert spec.index in recorded, "it runs before it is recorded"

    def advance(self, kimg: float, judge: Any, target: float | None = None) -> dict[str, Any]:
        made = {row["kimg"]: row for row in read_jsonl(self.folder.metrics)}
        if kimg not in made:
            self.folder.update(state=RUNNING, kimg=kimg)
            made[kimg] = {"kimg": kimg, "images": round(1000 * kimg), **self.evaluation(self.spec, kimg)}
            append_jsonl(self.folder.metrics, made[kimg])
        return made[kimg]

    def finish(self, state: str, reason: str = "") -> None:
        self.folder.update(state=state, reason=reason)

    def close(self) -> None:
        pass


def runner(plan: Plan, label: str, evaluation: Evaluation = by_rates) -> Runner:
    """A runner whose trials are not trained."""

    class Simulated(Runner):
        @cached_property
        def session(self) -> Session:
            return Session(plan, self.spec, self.folder, evaluation)

    return Simulated(plan, label)


def search(plan: Plan, label: str, slots: int = 1, steps: int | None = None, **more: Any) -> None:
    """What `hpc.search.ray_tune.search` does, with slots that take turns, a rung each.

    Raises Killed after `steps` rungs.
    """
    folders = {spec.index: folder for spec, folder in plan.trials(label)}
    s = plan.experiment.search
    rungs = ray_tune.Rungs(s, plan.run.trials / label / "decisions.jsonl", folders)
    todo = ray_tune.left_to_do(plan.experiment, folders)
    upcoming = ray_tune.Upcoming(plan, label, todo, folders)
    running: list[tuple[SimpleNamespace, Runner]] = []
    done = 0
    while todo or running:
        while todo and len(running) < slots:
            trial = SimpleNamespace(trial_id=f"t{len(folders)}-{done}", config=upcoming.suggest(""))
            rungs.on_trial_add(None, trial)
            running.append((trial, runner(plan, label, **more)))
            running[-1][1].open(trial.config["index"])
        for trial, one in [*running]:
            if done == steps:
                raise Killed
            done += 1
            result = one.step()
            # As in Ray, the scheduler is not asked about a trial that has ended.
            if result["ended"] or rungs.on_trial_result(None, trial, result) == rungs.STOP:
                one.close()
                running.remove((trial, one))
