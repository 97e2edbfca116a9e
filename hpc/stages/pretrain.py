"""Trains on the training images of all classes of a fold; each trial in that fold starts from the networks.

A class of a hundred images gains from thousands of others: they show the same hair, skin tones and light.
With `pretrain.conditional` the networks learn the classes, and each trial starts from those of its own.
RUN/pretrain has the layout of RUN: pretrain/trials/all/0000-ID/ is the training.
"""

from __future__ import annotations

from hpc.plan.sweep_plan import PRETRAIN, Job, Plan, fold_of
from hpc.state.records import Tell
from skin_gan.folders import COMPLETED

SHEETS = 8  # how many sheets of generated images are drawn, evenly over the training
UNMEASURED = {"kid": None, "note": "images of all classes together are drawn and not measured"}


def pretrain(plan: Plan, label: str, tell: Tell) -> None:
    """Train to pretrain.kimg and save the networks. A killed job resumes from the last checkpoint."""
    from hpc.stages.inputs import Inputs
    from skin_gan.training import checkpoint
    from skin_gan.training.session import Session

    e, inputs, fold = plan.experiment, Inputs(plan), fold_of(Job(PRETRAIN, label))
    training = plan.pretraining(fold)
    split, folder = inputs.all_classes(fold), training.folder(plan.run)
    session = Session(training.spec, folder, split, e.operations, e.evaluate)
    try:
        for part in range(1, SHEETS + 1):
            session.advance(training.kimg * part / SHEETS, lambda _: dict(UNMEASURED), target=training.kimg)
            tell(done=round(session.kimg, 3), total=training.kimg)
        session.finish(COMPLETED)
        checkpoint.save(training.networks(plan.run), training.id, session.learner.networks())
    finally:
        session.close()
