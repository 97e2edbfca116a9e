"""What only the machine that trains can tell, checked before many jobs find it out."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from hpc.plan.sweep_plan import Plan
from hpc.settings.compose import ROOT
from hpc.slurm import client
from hpc.stages.inputs import check_scratch
from hpc.state.provenance import CODE
from skin_gan.errors import SkinGanError


def preflight(plan: Plan) -> None:
    """Check what only the machine that trains can tell, before many jobs find it out. Raises SkinGanError."""
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
