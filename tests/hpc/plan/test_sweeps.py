"""Every file in sweeps/ composes, plans, and takes a training step, published and drawn settings alike."""

from dataclasses import replace

import pytest

from hpc.plan.sweep_plan import make_plan
from hpc.settings.compose import CHOICES, compose
from hpc.stages.inputs import Inputs
from hpc.stages.pretrain import pretrain
from skin_gan.data.resolve import resolve
from skin_gan.data.store import class_split
from skin_gan.training.session import Session

SMALL = ("evaluate.images=16", "evaluate.grid=4", "trial.model.base=8", "trial.train.batch=8",
         "search.trials=4", "budget=short", "data=demo")  # fmt: skip


@pytest.mark.parametrize("name", CHOICES["sweep"].names())
def test_a_sweep_plans_and_takes_a_step(name, tmp_path):
    words = [f"sweep={name}", *SMALL, "classes=[df]", f"results={tmp_path}"]
    if (e := compose(words)).pretrain.kimg:
        e = compose([*words, "pretrain.kimg=0.008"])
    e = replace(e, operations=replace(e.operations, device="cpu"))
    plan = make_plan(e, resolve("demo", [e.trial.model.size], tmp_path))
    trials = plan.trials("df")
    assert len({spec.id for spec, _ in trials}) == len(trials) == 4
    if e.pretrain.kimg:
        pretrain(plan, f"fold-{e.fold}", lambda **_: None)
    split = Inputs(plan).split("df")
    for spec, folder in (trials[0], trials[-1]):
        session = Session(spec, folder, split, e.operations, e.evaluate, source=plan.source(spec))
        session.train(0.008)
        assert session.learner.images == session.learner.images_per_step and session.learner.finite()
        session.close()


@pytest.mark.slow
def test_the_demo_trains_long_enough_to_draw_a_lesion_on_skin(tmp_path):
    """Generated melanomas are darker in the middle than at the corners, as the drawn ones are."""
    e = compose(["sweep=aegan_lr", "data=demo", "budget=demo", f"results={tmp_path}", "classes=[mel]"])
    store = resolve("demo", [32], tmp_path)
    plan = make_plan(e, store)
    spec, folder = plan.trials("mel")[0]
    session = Session(spec, folder, class_split(store, "mel", 32, e.fold), e.operations)
    session.train(e.search.rungs[-1])
    images = session.showcase.samples(session.learner).float().mean(1)  # [N,32,32]
    session.close()
    corners = images[:, [0, 0, 31, 31], [0, 31, 0, 31]].mean(1)
    darker = corners - images[:, 12:20, 12:20].mean((1, 2)) > 40
    assert darker.float().mean() > 0.9
