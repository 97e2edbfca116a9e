"""The work of each stage's jobs; a search is `hpc.jobs.task`'s own. Starts without torch."""

from __future__ import annotations

import functools
from collections.abc import Callable

from hpc.plan.ablation import arm_tasks, combined_tasks, sample_tasks
from hpc.plan.sweep_plan import (
    ABLATE,
    COMBINE,
    FINAL,
    FOLDS,
    GENERATE,
    PREPARE,
    PRETRAIN,
    REPORT,
    SELECT,
    Plan,
)
from hpc.stages.final import train_final
from hpc.stages.prepare import prepare
from hpc.stages.pretrain import pretrain
from hpc.stages.select import select


def ablate(plan: Plan, label: str, tell: Callable[..., None], stage: str) -> None:
    """One job of the stages from fold generators to the last classifier; `label` says which."""
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
        made = next(t for t in sample_tasks(a, plan.experiment.classes) if t.label == label)
        SampleSets(plan, inputs).make(made, tell)
    else:
        task = next(t for t in (*arm_tasks(a), *combined_tasks(a)) if t.label == label)
        work = Arms(plan, inputs)
        (work.combine if stage == COMBINE else work.train)(task, tell)


def report(plan: Plan, label: str, tell: Callable[..., None]) -> None:
    """Write the tables and the page from what has been done, whole or not."""
    from hpc.report.make import make_report

    make_report(plan)


WORK: dict[str, Callable[[Plan, str, Callable[..., None]], None]] = {
    PREPARE: prepare,
    PRETRAIN: pretrain,
    SELECT: select,
    FINAL: lambda plan, label, tell: train_final(plan, label),
    **{stage: functools.partial(ablate, stage=stage) for stage in (FOLDS, GENERATE, ABLATE, COMBINE)},
    REPORT: report,
}
