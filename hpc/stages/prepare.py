"""The first stage: validates the compute node and computes shared features. Starts without torch."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpc.plan.ablation import needs_all_features
from hpc.plan.precision import described, is_settled, precision_file
from hpc.plan.settle import check_weights, needed
from hpc.plan.sweep_plan import Plan
from hpc.settings.compose import Experiment
from hpc.settings.space import distributions
from hpc.slurm import client
from hpc.stages.scratch import check_scratch
from hpc.state.provenance import CODE
from hpc.state.records import Tell
from skin_gan.errors import SkinGanError
from skin_gan.installation import ROOT
from skin_gan.io import write_json
from skin_gan.metrics.scores import declared
from skin_gan.pretrained import FOLDER, find, folder
from skin_gan.training.tags import tag_of

# The first metrics in TensorBoard's table of trials; it shows five by default.
METRICS = ("kid", "kid_floor", "coverage", "copies", "precision", "recall", "fd", "c2st", "collapse")


def prepare(plan: Plan, label: str, tell: Tell) -> None:
    """Validate the node, write TensorBoard's columns, settle the precision, and compute the features of the
    real images once.

    Features are computed with one thread: on shared cores more threads mostly wait for one another.
    """
    preflight(plan)
    import torch

    from hpc.stages.inputs import Inputs
    from skin_gan.training.board import name_columns

    settle_precision(plan)
    torch.set_num_threads(1)
    name_columns(plan.run.path, *columns(plan.experiment))
    Inputs(plan).warm(lambda done, total: tell(done=done, total=total))
    tell(features=["all"] if needs_all_features(plan.experiment.ablate) else plan.experiment.classes)


def settle_precision(plan: Plan) -> None:
    """Measure the steps of the first trial and record the faster precision, unless that is known already."""
    if is_settled(plan.run, plan.experiment):
        return
    from hpc.stages.inputs import Inputs
    from skin_gan.training.speed import device_name, faster, speeds

    label, ops = plan.experiment.classes[0], plan.experiment.operations
    found = speeds(plan.trials(label)[0][0], Inputs(plan).split(label).train, ops)
    record = {"precision": faster(found), "images_per_second": found, "device": device_name(ops),
              "host": socket.gethostname()}  # fmt: skip
    write_json(precision_file(plan.run), record)
    print(f"train.precision: {described(plan.run)}", flush=True)


def columns(e: Experiment) -> tuple[dict[str, list[Any] | tuple[float, float]], dict[str, str]]:
    """The columns of TensorBoard's table: settings with their domains, and metrics with their meanings.

    `METRICS` come first, then other scores with a better direction.
    """
    scores = declared()
    names = dict.fromkeys((*METRICS, *(name for name, score in scores.items() if score.better)))
    metrics = {tag_of(name): scores[name].about for name in names}
    drawn = {name: distribution.domain for name, distribution in distributions(e.search.space).items()}
    return {"label": e.classes, **drawn}, metrics


def check_node_weights(plan: Plan) -> None:
    """SkinGanError, with the command that brings them, if this node lacks weights that the sweep needs."""
    missing = [name for name in needed(plan.experiment) if find(name) is None]
    if missing:
        fetch = " && ".join(f"python -m skin_gan.pretrained fetch {name}" for name in missing)
        raise SkinGanError(
            f"{socket.gethostname()} lacks the weights {', '.join(missing)}: on the login node run "
            f"`export {FOLDER}={folder()} && {fetch}` and launch again from that shell; the nodes must share "
            "that folder, so name another if they do not"
        )
    check_weights(plan.experiment)


def preflight(plan: Plan) -> None:
    """SkinGanError for faults that only the compute node shows: packages, Slurm, weights, scratch, GPUs."""
    import torch

    e, code = plan.experiment, os.environ.get(CODE, str(ROOT))
    if Path(code).resolve() != ROOT:
        raise SkinGanError(f"Python here imported skin_gan from {ROOT}, not from {code}: see profile.setup")
    if missing := [name for name in ("ray", "accelerate", "timm", "submitit") if find_spec(name) is None]:
        raise SkinGanError(
            f"{sys.executable} on {socket.gethostname()} has no {', '.join(missing)}: see profile.setup"
        )
    if e.profile.kind == "slurm":
        if shutil.which("scontrol") is None:
            raise SkinGanError(
                f"{sys.executable} on {socket.gethostname()} finds no scontrol, which requeues a search at "
                "its time limit: make Slurm's commands visible there, see profile.setup and profile.python"
            )
        with suppress(client.Unreachable):  # Slurm is busy; the launch has checked this too
            client.check_limits(e.profile)
    check_node_weights(plan)
    check_scratch(plan)
    wanted, found = e.profile.gpus_per_node, torch.cuda.device_count()
    if e.operations.device != "cpu" and found < wanted:
        raise SkinGanError(
            f"torch sees {found} GPUs on {socket.gethostname()}, expected profile.gpus_per_node={wanted}: "
            "check the profile and torch's build, or set operations.device=cpu"
        )
