"""Whether a job has anything left to do: pure functions of the plan and a snapshot. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hpc.plan import ablation
from hpc.plan.sweep_plan import (
    AFTER_SELECTION,
    CONFIRM,
    FINAL,
    PREPARE,
    PRETRAIN,
    SEARCH,
    SELECT,
    Job,
    Plan,
    class_of,
    jobs_before,
    unfinished,
)
from hpc.state.outputs import BY_OUTPUT
from hpc.state.snapshot import Snapshot
from skin_gan.identity import content_hash

RUN = ("state", "started", "host", "pid", "attempt")  # fields of a record that identify one run of the job
RESULT = ("state", "reason", "kimg", "kid", "best_kid", "best_kimg")  # fields of a trial's state


def complete(plan: Plan, job: Job, s: Snapshot) -> bool:
    """Whether the job has nothing left to do. SkinGanError if a trial that it depends on is damaged."""
    if job.stage == SEARCH:
        e = plan.experiment
        states = (s.state(job.label, folder) for _, folder in plan.trials_of(job))
        return plan.all_known(job) and not any(unfinished(state, e) for state in states)
    if job.stage in BY_OUTPUT:
        return job.name in s.outputs
    if not s.done(job) or job.name not in s.outputs:
        return False
    record = s.record(job)
    if job.stage == PREPARE:
        return set(plan.experiment.classes) <= set(record.get("classes", [])) and (
            "all" in record.get("features", []) or not ablation.needs_all_features(plan.experiment.ablate)
        )
    # Compared by hash, not by time: the clocks of different nodes do not agree.
    now = inputs(plan, job, s)
    return now is not None and record.get("inputs") == now


def of_earlier_version(job: Job, s: Snapshot) -> bool:
    """Whether the job succeeded under a version that did not record inputs, so that it must run again."""
    return reads_others(job) and s.done(job) and "inputs" not in s.record(job)


def reads_others(job: Job) -> bool:
    """Whether the job reads results of other jobs, and is out of date when those change."""
    return job.stage in (CONFIRM, SELECT) or job.stage in AFTER_SELECTION


def inputs(plan: Plan, job: Job, s: Snapshot) -> str | None:
    """A hash of the settings and the results of other jobs that the job reads.

    None for jobs that read no results of others, and while a job before it has not ended.
    """
    e = plan.experiment
    if job.stage == CONFIRM:
        labels = e.classes if e.confirm.shared else [class_of(job.name)]
        return content_hash([asdict(e.select), labels, target(plan, CONFIRM), results(plan, s, labels)])
    if not reads_others(job):
        return None
    before = {j.name: s.record(j) for j in jobs_before(plan, job.stage)}
    if not all("ended" in record for record in before.values()):
        return None
    # A job that ran again may have other results.
    runs = {name: [record.get(key) for key in RUN] for name, record in before.items()}
    if job.stage == SELECT:
        read = [asdict(e.select), e.classes, results(plan, s, e.classes)]
        return content_hash([*read, asdict(e.confirm), runs] if e.confirm.seeds else read)
    return content_hash([target(plan, job.stage), plan.experiment.classes, runs, list(s.sources)])


def results(plan: Plan, s: Snapshot, labels: Sequence[str]) -> list[list[Any]]:
    """The name and result of each trial of these classes."""
    trials = ((label, folder) for label in labels for _, folder in plan.trials(label))
    return [[folder.path.name, *map(s.state(label, folder).get, RESULT)] for label, folder in trials]


def target(plan: Plan, stage: str) -> Any:
    """The goal of a stage's jobs, which a later launch may change.

    This is a length in kimg; in a search also the trials per class, in a confirmation which settings; after
    the selection a hash of the ablation's settings and of the external images.
    """
    e = plan.experiment
    if stage == FINAL:
        return [e.final.kimg]
    if stage == PRETRAIN:
        return [e.pretrain.kimg]
    if stage == CONFIRM:
        return [e.confirm.top, e.confirm.shared, *e.search.rungs]
    if stage in AFTER_SELECTION:
        return content_hash([asdict(e.ablate), asdict(e.select), e.allow_rejected, *plan.source_stamps])
    return [e.search.trials, *e.search.rungs]
