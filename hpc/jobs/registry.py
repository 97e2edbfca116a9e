"""The function of each stage's jobs, except the search, which is in `hpc.jobs.task`. Starts without torch."""

from __future__ import annotations

import functools
from collections.abc import Callable

from hpc.plan.ablation import arm_tasks, combined_tasks, sample_tasks
from hpc.plan.sweep_plan import (
    ABLATE,
    COMBINE,
    CONFIRM,
    FINAL,
    FOLDS,
    GENERATE,
    PREPARE,
    PRETRAIN,
    REPORT,
    SELECT,
    Plan,
)
from hpc.stages.best import select
from hpc.stages.confirm import confirm
from hpc.stages.final import train_final
from hpc.stages.prepare import prepare
from hpc.stages.pretrain import pretrain
from hpc.state.records import Tell


def ablate(plan: Plan, label: str, tell: Tell, stage: str) -> None:
    """Run the job with this label of the stage folds, generate, ablate or combine."""
    import torch

    from hpc.stages.classify import Arms
    from hpc.stages.folds import Generators
    from hpc.stages.generate import SampleSets
    from hpc.stages.inputs import Inputs

    torch.set_num_threads(plan.experiment.operations.threads)
    inputs, a = Inputs(plan), plan.experiment.ablate
    if stage == FOLDS:
        Generators(plan, inputs).retrain(label, tell)
    elif stage == GENERATE:
        samples = next(t for t in sample_tasks(a, plan.experiment.classes) if t.label == label)
        SampleSets(plan, inputs).make(samples, tell)
    else:
        task = next(t for t in (*arm_tasks(a), *combined_tasks(a)) if t.label == label)
        arms = Arms(plan, inputs)
        (arms.combine if stage == COMBINE else arms.train)(task, tell)


def report(plan: Plan, label: str, tell: Tell) -> None:
    """Write the tables and the page from the runs that have finished."""
    from hpc.report.make import make_report

    make_report(plan)


WORK: dict[str, Callable[[Plan, str, Tell], None]] = {
    PREPARE: prepare,
    PRETRAIN: pretrain,
    CONFIRM: confirm,
    SELECT: select,
    FINAL: lambda plan, label, tell: train_final(plan, label),
    **{stage: functools.partial(ablate, stage=stage) for stage in (FOLDS, GENERATE, ABLATE, COMBINE)},
    REPORT: report,
}
