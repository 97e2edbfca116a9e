"""A training on the images of all classes of a fold, from whose networks each trial there starts.

A class of a hundred images learns hair, skin tones and light from the thousands of the others; no test image
is among them. RUN/pretrain is laid out as RUN: pretrain/trials/all/0000-ID/ is the training.
"""

from __future__ import annotations

from collections.abc import Callable

from hpc.plan.sweep_plan import PRETRAIN, Job, Plan, fold_of
from skin_gan.folders import COMPLETED

SHEETS = 8  # times that sheets of generated images are drawn
UNMEASURED = {"kid": None, "note": "images of all classes together are drawn and not measured"}


def pretrain(plan: Plan, label: str, tell: Callable[..., None]) -> None:
    """Train to pretrain.kimg and write the networks. Killed, it goes on from the last checkpoint."""
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
            tell(done=round(session.kimg, 1), total=training.kimg)
        session.finish(COMPLETED)
        checkpoint.save(training.networks(plan.run), training.id, session.learner.networks())
    finally:
        session.close()
