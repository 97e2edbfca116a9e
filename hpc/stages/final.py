"""The final training: a class's chosen trial anew, at full length, by all processes of its job.

RUN/final is laid out as RUN itself: final/trials/CLASS/ is the training, final/best/CLASS/ its generator.
The processes find one another by the environment (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), in which
`hpc.cluster.executor` has put what Submitit knows.
"""

from __future__ import annotations

from typing import Any

from hpc.plan.sweep_plan import Plan
from hpc.stages.select import best_row, judgement
from hpc.state.generators import chosen, final_run, read_card
from skin_gan.config import TrialSpec
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, TrialFolder


def train_final(plan: Plan, label: str) -> None:
    """Train the class's chosen trial to final.kimg and export its best generator.

    Each process of the job calls it. A job that was killed goes on from the last checkpoint.
    """
    from hpc.stages.inputs import Inputs
    from skin_gan.generate import export
    from skin_gan.training.devices import end_processes
    from skin_gan.training.session import Session

    e, inputs = plan.experiment, Inputs(plan)
    spec, folder = taken(plan, label)
    source = plan.source(spec)
    session = Session(spec, folder, inputs.split(label), e.operations, e.evaluate, source=source)
    try:
        row = session.advance(e.final.kimg, inputs.judge(label) if session.main else lambda _: {})
        session.finish(COMPLETED)
    finally:
        session.close()
    if session.main:
        export(folder, final_run(plan).best(label), verdict(plan, folder) | {"trained_kimg": row["kimg"]})
    end_processes()


def taken(plan: Plan, label: str) -> tuple[TrialSpec, TrialFolder]:
    """The chosen trial. SkinGanError if there is none, or a rejected one that is not wanted."""
    found = chosen(plan, label)
    if found is None:
        raise SkinGanError(f"{label} has no generator yet: no trial of it was evaluated")
    card = read_card(plan.run.best(label)) or {}
    if not card["accepted"] and not plan.experiment.allow_rejected:
        raise SkinGanError(
            f"{label}'s generator was rejected ({'; '.join(card['reasons'])}): search further, or set "
            "allow_rejected=true"
        )
    return found


def verdict(plan: Plan, folder: TrialFolder) -> dict[str, Any]:
    """What the card says of the choice, as `hpc.stages.select` says it of a search's."""
    row = best_row(folder)
    if row is None:
        raise SkinGanError(f"{folder.path}: no evaluation of it has a KID; its metrics.jsonl says why")
    chosen = {"sweep": plan.experiment.sweep, "trial": folder.path.name}
    return chosen | judgement(row, plan.experiment.select)
