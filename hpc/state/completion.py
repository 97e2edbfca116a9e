"""Whether a job has anything left to do: pure functions of the plan and a snapshot. No torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hpc.plan import ablation
from hpc.plan.sweep_plan import (
    AFTER_SELECTION,
    FINAL,
    PREPARE,
    PRETRAIN,
    SEARCH,
    SELECT,
    Job,
    Plan,
    jobs_before,
    unfinished,
)
from hpc.state.outputs import BY_OUTPUT
from hpc.state.snapshot import Snapshot
from skin_gan.identity import content_hash

# What tells one run of a job from another, and what of a trial's state its training decides.
RUN = ("state", "started", "host", "pid", "attempt")
RESULT = ("state", "reason", "kimg", "kid", "best_kid", "best_kimg")


def complete(plan: Plan, job: Job, s: Snapshot) -> bool:
    """Whether the job has nothing left to do. SkinGanError for a damaged trial that it depends on."""
    if job.stage == SEARCH:
        last = plan.experiment.search.rungs[-1]
        return not any(unfinished(s.state(job.label, folder), last) for _, folder in plan.trials_of(job))
    if job.stage in BY_OUTPUT:
        return job.name in s.outputs
    if not s.done(job) or job.name not in s.outputs:
        return False
    record = s.record(job)
    if job.stage == PREPARE:
        return set(plan.experiment.classes) <= set(record.get("classes", [])) and (
            "all" in record.get("features", []) or not ablation.needs_all_features(plan.experiment.ablate)
        )
    # Not by when they ran: the clocks of different nodes do not agree.
    now = inputs(plan, job, s)
    return now is not None and record.get("inputs") == now


def of_earlier_version(job: Job, s: Snapshot) -> bool:
    """Whether the job ended well under a version that did not record what jobs read: it is done again."""
    return reads_others(job) and s.done(job) and "inputs" not in s.record(job)


def reads_others(job: Job) -> bool:
    """Whether the job is up to date only as long as what it has read stays the same."""
    return job.stage == SELECT or job.stage in AFTER_SELECTION


def inputs(plan: Plan, job: Job, s: Snapshot) -> str | None:
    """A hash of all that the job reads of the settings and of what others have made.

    None for jobs that are complete by what they make, and while a job before has not ended.
    """
    if job.stage == SELECT:
        return content_hash([asdict(plan.experiment.select), plan.experiment.classes, results(plan, s)])
    if not reads_others(job):
        return None
    before = {j.name: s.record(j) for j in jobs_before(plan, job.stage)}
    if not all("ended" in record for record in before.values()):
        return None
    # A job that ran again may have made something else.
    runs = {name: [record.get(key) for key in RUN] for name, record in before.items()}
    return content_hash([target(plan, job.stage), plan.experiment.classes, runs, list(s.sources)])


def results(plan: Plan, s: Snapshot) -> list[list[Any]]:
    """The result of each trial of the plan."""
    trials = ((label, folder) for label in plan.experiment.classes for _, folder in plan.trials(label))
    return [[folder.path.name, *map(s.state(label, folder).get, RESULT)] for label, folder in trials]


def target(plan: Plan, stage: str) -> Any:
    """What a job works towards, which a launch may change.

    That is kimg, in a search trials per class too, and in the ablation all of its settings and the files of
    images that others made.
    """
    e = plan.experiment
    if stage == FINAL:
        return [e.final.kimg]
    if stage == PRETRAIN:
        return [e.pretrain.kimg]
    if stage in AFTER_SELECTION:
        return content_hash([asdict(e.ablate), asdict(e.select), e.allow_rejected, *plan.stamps])
    return [e.search.trials, *e.search.rungs]
