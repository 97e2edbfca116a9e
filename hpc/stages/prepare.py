"""The first stage: checks the machine that trains, computes what later jobs share. Starts without torch."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpc.plan.ablation import needs_all_features
from hpc.plan.sweep_plan import Plan
from hpc.settings.compose import ROOT, Experiment
from hpc.settings.space import distributions
from hpc.slurm import client
from hpc.stages.scratch import check_scratch
from hpc.state.provenance import CODE
from skin_gan.errors import SkinGanError
from skin_gan.metrics.scores import declared

# Metrics of trials and of classifier runs in TensorBoard's table, which shows the first five.
METRICS = (
    "metrics/kid", "metrics/kid_floor", "metrics/coverage", "test/balanced_accuracy", "val/balanced_accuracy",
    "metrics/copies", "metrics/precision", "metrics/recall", "metrics/fd", "metrics/c2st", "metrics/collapse",
    "metrics/overfit", "test/macro_auc", "test/ece",
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
    """The searched settings in TensorBoard's table, with what each is drawn from; metrics' tags and meanings.

    `METRICS` come first, then other scores of images of which lower or higher is better. Where classifiers
    are trained, also what tells their runs apart, and their metrics.
    """
    scores = {f"metrics/{name}": score for name, score in declared().items()}
    tags = dict.fromkeys((*METRICS, *(tag for tag, score in scores.items() if score.better)))
    metrics = {tag: scores[tag].about if tag in scores else "" for tag in tags}
    drawn = {name: distribution.domain for name, distribution in distributions(e.search.space).items()}
    settings: dict[str, list[Any] | tuple[float, float]] = {"label": e.classes, **drawn}
    if not e.ablate.classifiers:
        return settings, {tag: text for tag, text in metrics.items() if tag in scores}
    return settings | {name: [] for name in ("classifier", "arm", "split", "seed")}, metrics


def preflight(plan: Plan) -> None:
    """SkinGanError for what many jobs would stumble over and only the machine that trains can tell."""
    import torch

    e, code = plan.experiment, os.environ.get(CODE, str(ROOT))
    if Path(code).resolve() != ROOT:
        raise SkinGanError(f"Python here took the package from {ROOT}, not from {code}: see profile.setup")
    if missing := [name for name in ("ray", "accelerate", "timm", "submitit") if find_spec(name) is None]:
        raise SkinGanError(
            f"{sys.executable} on {socket.gethostname()} has no {', '.join(missing)}: see profile.setup"
        )
    if e.profile.kind == "slurm":
        if shutil.which("scontrol") is None:
            raise SkinGanError(
                f"there is no scontrol for {sys.executable} on {socket.gethostname()}, by which a search is "
                "requeued at its time limit: make Slurm's clients visible there, see profile.setup and python"
            )
        with suppress(client.Unreachable):  # Slurm is busy: launching has asked too
            client.check_limits(e.profile)
    check_scratch(plan)
    wanted, found = e.profile.gpus_per_node, torch.cuda.device_count()
    if e.operations.device != "cpu" and found < wanted:
        raise SkinGanError(
            f"{socket.gethostname()} shows torch {found} GPUs where profile.gpus_per_node={wanted}: check "
            "the profile and torch's build, or set operations.device=cpu"
        )
