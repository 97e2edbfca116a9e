"""The final training: a class's selected trial again, at full length, by all processes of its job.

RUN/final has the layout of RUN: final/trials/CLASS/ is the training, final/best/CLASS/ its generator. The
processes find one another by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, set by `hpc.cluster.executor`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hpc.plan.sweep_plan import Plan
from hpc.stages.select import best_row, judgement
from hpc.state.generators import chosen, data_kind, final_run, read_card
from skin_gan.config import TrialSpec
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, TrialFolder


def train_final(plan: Plan, label: str) -> None:
    """Train the class's selected trial to final.kimg and export its best generator.

    Every process of the job calls this. A job that was killed resumes from the last checkpoint.
    """
    from hpc.stages.inputs import Inputs
    from skin_gan.generator import save_generator
    from skin_gan.training.devices import end_processes
    from skin_gan.training.session import Session

    e, inputs = plan.experiment, Inputs(plan)
    spec, folder = selected(plan, label)
    source = plan.source(spec)
    watched = replace(e.evaluate, stop_on_alarm=False)  # which is for trials of a search
    session = Session(spec, folder, inputs.split(label), e.operations, watched, source=source)
    try:
        row = session.advance(e.final.kimg, inputs.judge(label) if session.main else lambda _: {})
        session.finish(COMPLETED)
    finally:
        session.close()
    if session.main:
        save_generator(
            folder, final_run(plan).best(label), card_fields(plan, folder) | {"trained_kimg": row["kimg"]}
        )
    end_processes()


def selected(plan: Plan, label: str) -> tuple[TrialSpec, TrialFolder]:
    """The selected trial. SkinGanError if there is none, or it is rejected and allow_rejected is false."""
    found = chosen(plan, label)
    if found is None:
        raise SkinGanError(f"{label} has no generator yet: no trial of it was evaluated")
    card = read_card(plan.run.best(label)) or {}
    if not card["accepted"] and not plan.experiment.allow_rejected:
        raise SkinGanError(
            f"{label}'s generator was rejected ({'; '.join(card['reasons'])}): extend the search, or set "
            "allow_rejected=true"
        )
    return found


def card_fields(plan: Plan, folder: TrialFolder) -> dict[str, Any]:
    """The fields of the generator's card about its selection, as in a search's card."""
    row = best_row(folder)
    if row is None:
        raise SkinGanError(f"{folder.path}: none of its evaluations has a KID: see its metrics.jsonl")
    chosen = {"sweep": plan.experiment.sweep, "trial": folder.path.name, "data_kind": data_kind(plan)}
    return chosen | judgement(row, plan.experiment.select)
