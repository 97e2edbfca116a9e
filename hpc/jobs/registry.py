"""What the jobs of each stage do, the search apart: that is `hpc.jobs.task`' own. Starts without torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from hpc.plan.ablation import arm_tasks, combined_tasks, needs_all_features, sample_tasks
from hpc.plan.sweep_plan import ABLATE, COMBINE, FINAL, FOLDS, GENERATE, PREPARE, REPORT, SELECT, Plan
from hpc.settings.compose import Experiment
from hpc.settings.space import domains
from hpc.stages.final import train_final
from hpc.stages.prepare import preflight
from skin_gan.errors import SkinGanError
from skin_gan.metrics.scores import declared

# Metrics of trials and of classifier runs in TensorBoard's table, which shows the first five.
METRICS = (
    "metrics/kid", "metrics/kid_floor", "metrics/coverage", "test/balanced_accuracy", "val/balanced_accuracy",
    "metrics/copies", "metrics/precision", "metrics/recall", "metrics/fd", "metrics/c2st", "metrics/collapse",
    "test/macro_auc", "test/ece",
)  # fmt: skip


def prepare(plan: Plan, label: str, tell: Callable[..., None]) -> None:
    """Check the machine, name the board's columns, and compute the features of the real images once.

    On one thread: on cores that others use too, a second one waits for the first more than it helps.
    """
    preflight(plan)
    import torch

    from hpc.stages.inputs import Inputs
    from skin_gan.training.board import name_columns

    torch.set_num_threads(1)
    name_columns(plan.run.path, *columns(plan.experiment))
    Inputs(plan).warm(lambda done, total: tell(done=done, total=total))
    tell(features=["all"] if needs_all_features(plan.experiment.ablate) else plan.experiment.classes)


def columns(e: Experiment) -> tuple[dict[str, list[Any] | tuple[float, float]], dict[str, str]]:
    """Of TensorBoard's table: the searched settings and what each is drawn from; the tags of metrics and what
    they mean, `METRICS` first, then all other scores of images of which lower or higher is better.

    Where classifiers are trained, also what tells their runs apart, and their metrics.
    """
    scores = {f"metrics/{name}": score for name, score in declared().items()}
    tags = dict.fromkeys((*METRICS, *(tag for tag, score in scores.items() if score.better)))
    metrics = {tag: scores[tag].about if tag in scores else "" for tag in tags}
    settings: dict[str, list[Any] | tuple[float, float]] = {"label": e.classes, **domains(e.search.space)}
    if not e.ablate.classifiers:
        return settings, {tag: text for tag, text in metrics.items() if tag in scores}
    return settings | {name: [] for name in ("classifier", "arm", "split", "seed")}, metrics


def select(plan: Plan, label: str, tell: Callable[..., None]) -> None:
    """Write the leaderboard and export the best generator of each class."""
    from hpc.stages.select import export_best, write_leaderboard

    rows = write_leaderboard(plan)
    if not any(row["kid"] is not None for row in rows):
        raise SkinGanError(
            f"no trial in {plan.run.path} was ever evaluated: {plan.run.jobs} holds the jobs' messages"
        )
    export_best(plan, rows)


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
    SELECT: select,
    FINAL: lambda plan, label, tell: train_final(plan, label),
    **{stage: functools.partial(ablate, stage=stage) for stage in (FOLDS, GENERATE, ABLATE, COMBINE)},
    REPORT: report,
}
