"""Pretraining on all classes: planned once, on training lesions only, and where every trial starts."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from plans import complete, plan_of

from hpc.plan.sweep_plan import PRETRAIN, reopen, run_identity
from hpc.settings.compose import compose, save
from hpc.stages import pretrain as pretraining
from hpc.stages.inputs import Inputs
from hpc.stages.pretrain import pretrain
from skin_gan.config import spec_from
from skin_gan.data.splits import split_parts
from skin_gan.data.store import ALL, all_split
from skin_gan.errors import SkinGanError
from skin_gan.families import build
from skin_gan.folders import TrialFolder
from skin_gan.generator import read_yaml
from skin_gan.identity import content_hash
from skin_gan.io import write_json
from skin_gan.training import checkpoint
from skin_gan.training.learner import Learner
from skin_gan.training.session import Session

SMALL = ("cluster=local", "operations.device=cpu", "evaluate.images=16", "evaluate.grid=4",
         "trial.model.base=4", "trial.train.batch=8")  # fmt: skip


def planned(tmp_path, *words):
    return plan_of(tmp_path, *SMALL, "pretrain.kimg=0.016", *words)


def test_one_job_comes_before_the_searches_and_one_for_each_other_fold(tmp_path):
    stages = {stage.name: [job.name for job in stage.jobs] for stage in planned(tmp_path).stages}
    assert [*stages][:3] == ["prepare", "pretrain", "search"] and stages["pretrain"] == ["pretrain-fold-0"]
    several = planned(tmp_path, "ablate.folds=[0,2]", "ablate.classifiers.head={arms: [real, best]}")
    stages = {stage.name: [job.name for job in stage.jobs] for stage in several.stages}
    assert stages["pretrain"] == ["pretrain-fold-0", "pretrain-fold-2"]
    without = plan_of(tmp_path, *SMALL)
    assert PRETRAIN not in {stage.name for stage in without.stages}
    assert {spec.start for spec, _ in without.trials("df")} == {""}


def test_its_length_is_part_of_what_trials_and_sweeps_are(tmp_path):
    plans = [plan_of(tmp_path, *SMALL, f"pretrain.kimg={kimg}") for kimg in (0, 1, 2)]
    assert len({plan.trials("df")[0][0].id for plan in plans}) == 3
    assert len({run_identity(plan.experiment, plan.data, 2) for plan in plans}) == 3
    assert len({spec.start for label in ("df", "nv") for spec, _ in plans[1].trials(label)}) == 1


def test_told_to_stop_it_saves_first_and_goes_on_from_there(tmp_path, monkeypatch):
    plan = planned(tmp_path, "operations.checkpoint_seconds=1000")
    job = next(stage for stage in plan.stages if stage.name == PRETRAIN).jobs[0]
    training, step, steps = plan.pretraining(0), Learner.step, []

    def counting(learner):
        steps.append(learner.images)
        if len(steps) == 1:
            signal.raise_signal(signal.SIGTERM)
        return step(learner)

    monkeypatch.setattr(Learner, "step", counting)
    monkeypatch.setattr(pretraining, "SHEETS", 1)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            pretrain(plan, job.label, lambda **_: None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps == [0] and not complete(plan, job)
    assert checkpoint.load(training.folder(plan.run).last, training.spec.id)["learner"]["images"] == 8
    pretrain(plan, job.label, lambda **_: None)
    assert steps == [0, 8] and complete(plan, job)


def test_trials_start_from_its_networks_and_other_networks_are_refused(tmp_path):
    plan = planned(tmp_path)
    job = next(stage for stage in plan.stages if stage.name == PRETRAIN).jobs[0]
    told = []
    assert not complete(plan, job)
    pretrain(plan, job.label, lambda **values: told.append(values))
    assert complete(plan, job) and told[-1] == {"done": 0.016, "total": 0.016}
    spec, folder = plan.trials("df")[0]
    source = plan.source(spec)
    pretrained = checkpoint.load_networks(source, spec.start)
    e, split = plan.experiment, Inputs(plan).split("df")
    session = Session(spec, folder, split, e.operations, e.evaluate, source=source)
    for name, net in session.learner.plain.items():
        assert all(torch.equal(value, pretrained[name][key]) for key, value in net.state_dict().items())
    session.close()
    longer = plan_of(tmp_path, *SMALL, "pretrain.kimg=0.032")
    spec, folder = longer.trials("df")[0]
    with pytest.raises(SkinGanError, match=f"holds the networks .* and not {spec.start}"):
        Session(spec, folder, split, e.operations, e.evaluate, source=source)
    with pytest.raises(SkinGanError, match="the job of the stage pretrain makes them"):
        Session(spec, folder, split, e.operations, e.evaluate, source=longer.source(spec))


def test_all_classes_are_their_training_images_drawn_by_the_root_of_their_counts(tmp_path):
    inputs = Inputs(planned(tmp_path))
    split, store = all_split(inputs.store, 32, 1), inputs.store
    ids, parts = store.manifest["image_id"].to_numpy(), split_parts(store.folds, 1)
    assert split.label == ALL
    assert set(split.train.image_ids) == set(ids[parts == "train"])
    assert set(split.val.image_ids) == set(ids[parts == "val"])
    label_of = dict(zip(ids, store.manifest["dx"], strict=True))
    labels = np.array([label_of[i] for i in split.train.image_ids])
    share = split.train.weights / split.train.weights.sum()
    roots = {label: n**0.5 for label, n in Counter(labels).items()}
    for label, root in roots.items():
        assert share[labels == label].sum() == pytest.approx(root / sum(roots.values()))


def test_what_would_change_the_networks_cannot_be_searched():
    with pytest.raises(SkinGanError, match=r"search\.space\.model\.base: with pretrain\.kimg"):
        compose(["sweep=aegan_lr", "pretrain.kimg=1", "search.space.model.base={choice: [4, 8]}"])


LONGER = "pretrain.kimg=0.064"  # every class is drawn in it
CONDITIONAL = (LONGER, "pretrain.conditional=true", "pretrain.class_from=0", "pretrain.class_until=0.008")


def test_a_conditional_one_is_other_networks_and_each_trial_starts_from_those_of_its_class(tmp_path):
    plain, plan = planned(tmp_path, LONGER), planned(tmp_path, *CONDITIONAL)
    later = planned(tmp_path, *CONDITIONAL, "pretrain.class_until=0.016")
    assert len({p.trials("df")[0][0].id for p in (plain, plan, later)}) == 3
    assert len({run_identity(p.experiment, p.data, 2) for p in (plain, plan, later)}) == 3
    pretrain(plan, "fold-0", lambda **_: None)
    assert spec_from(read_yaml(plan.pretraining(0).folder(plan.run).spec)) == plan.pretraining(0).spec
    e, weights = plan.experiment, {}
    for label in ("df", "nv"):
        spec, folder = plan.trials(label)[0]
        assert spec.class_fade == []
        session = Session(
            spec, folder, Inputs(plan).split(label), e.operations, e.evaluate, source=plan.source(spec)
        )
        weights[label] = session.learner.plain["generator"].state_dict()
        session.close()
    assert weights["df"].keys() == build(spec.settings.model)["generator"].state_dict().keys()
    assert not all(torch.equal(value, weights["nv"][key]) for key, value in weights["df"].items())


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("pretrain.class_until=2", r"class_from < class_until <= kimg, got 1, 2 and 1\.5 kimg"),
        ("pretrain.class_from=1.5", r"got 1\.5, 1\.4 and 1\.5 kimg"),
        ("trial.model.norm=none", r"trial\.model\.norm=none has none: choose batch, layer or group"),
    ],
)
def test_marks_in_the_wrong_order_and_a_generator_that_a_class_cannot_act_on_are_refused(word, said):
    words = ["sweep=aegan_lr", "pretrain.kimg=1.5", "pretrain.conditional=true"]
    words += ["pretrain.class_from=1", "pretrain.class_until=1.4"]
    compose(words)
    with pytest.raises(SkinGanError, match=said):
        compose([*words, word])


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A sweep whose pretraining is finished."""
    plan = planned(tmp_path_factory.mktemp("earlier"))
    pretrain(plan, "fold-0", lambda **_: None)
    return plan


def with_source(results, place, *words):
    return plan_of(results, *SMALL, "classes=[df]", f"pretrain.source={place}", *words)


def test_trials_start_from_an_earlier_sweep_s_pretraining_instead_of_one_of_their_own(earlier, tmp_path):
    """Its content, and not its place, is part of what they and their sweep are; rates may differ."""
    networks = earlier.pretraining(0).networks(earlier.run)
    places = (earlier.run.path, earlier.run.path / "pretrain", networks.parent, networks)
    plans = [with_source(tmp_path, place, "pretrain.kimg=9", "trial.optim.lr_g=1e-4") for place in places]
    plan, ids = plans[0], [[spec.id for spec, _ in plan.trials("df")] for plan in plans]
    assert all(p.run == plan.run for p in plans) and ids == [ids[0]] * 4
    assert PRETRAIN not in {stage.name for stage in plan.stages}
    assert plan.notes[0].startswith("trials start from the networks")
    plain = plan_of(tmp_path, *SMALL, "classes=[df]", "trial.optim.lr_g=1e-4")
    assert plain.run != plan.run and plain.trials("df")[0][0].id not in ids[0]

    spec, folder = plan.trials("df")[0]
    e, split = plan.experiment, Inputs(plan).split("df")
    session = Session(spec, folder, split, e.operations, e.evaluate, source=plan.source(spec))
    held = checkpoint.load_networks(networks, earlier.pretraining(0).id)
    for name, net in session.learner.plain.items():
        assert all(torch.equal(value, held[name][key]) for key, value in net.state_dict().items())
    session.close()

    plan.run.path.mkdir(parents=True, exist_ok=True)
    save(e, plan.run.settings)
    write_json(plan.run.provenance, {"data": {"fingerprint": plan.data}})
    again = reopen(plan.run)  # as jobs do, when the source may be gone
    assert [s.id for s, _ in again.trials("df")] == ids[0] and again.source(spec) == networks


def test_networks_that_were_replaced_since_are_another_source(earlier, tmp_path):
    shutil.copytree(earlier.run.path, tmp_path / "copy")
    plan = with_source(tmp_path, tmp_path / "copy")
    spec, folder = plan.trials("df")[0]
    file, identity = plan.source(spec), earlier.pretraining(0).id
    networks = checkpoint.load_networks(file, identity)
    next(iter(networks["generator"].values())).add_(1)
    checkpoint.save(file, identity, networks)
    e, split = plan.experiment, Inputs(plan).split("df")
    with pytest.raises(SkinGanError, match=f"and not {spec.start}"):
        Session(spec, folder, split, e.operations, e.evaluate, source=file)
    assert with_source(tmp_path, tmp_path / "copy").run != plan.run
    with pytest.raises(SkinGanError, match=f"expected those of pretrain.content={spec.start}"):
        with_source(tmp_path, tmp_path / "copy", f"pretrain.content={spec.start}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fold=1"], r"has no pretrainings of fold 1 \(there: fold 0\)"),
        (
            ["trial.model.size=64", "trial.model.base=8"],
            r"model.size=32 \(here 64\), model.base=4 \(here 8",
        ),
        (["trial.model.family=dcgan"], r"of model.family=aegan \(here dcgan\)"),
        (["trial.model.discriminator=both"], r"of model.discriminator=own \(here both\)"),
        (["search.space.model.norm={choice: [batch, none]}"], "with pretrain.source every trial starts from"),
        (
            ["ablate.folds=[0,2]", "ablate.classifiers.head={arms: [real, best]}"],
            "generators are trained for fold 2 too",
        ),
    ],
)
def test_a_source_of_another_fold_size_or_model_is_refused(earlier, tmp_path, words, says):
    with pytest.raises(SkinGanError, match=says):
        with_source(tmp_path, earlier.run.path, *words)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("data", r"of data 00000000 \(here "),
        ("unfinished", r"is not finished \(running, 0.016 kimg\)"),
        ("longer", "is not finished"),
        ("cut", "is cut or damaged"),
        ("empty", "has no pretraining: expected the folder of a sweep"),
        ("unreadable", "cannot read"),
    ],
)
def test_a_source_of_other_data_or_unfinished_or_damaged_is_refused(earlier, tmp_path, harm, says):
    copy = tmp_path / "copy"
    shutil.copytree(earlier.run.path, copy)
    folder = TrialFolder(next(copy.glob("pretrain/trials/all/*")))
    networks = next(folder.path.glob("networks-*"))
    if harm == "data":
        spec = yaml.safe_load(folder.spec.read_text())
        of_others = replace(spec_from(spec), data="0" * 16)
        folder.spec.write_text(yaml.safe_dump({**spec, "data": of_others.data}))
        networks.rename(folder.path / f"networks-{content_hash([of_others.id, 0.016])}.pt")
    elif harm == "unfinished":
        folder.update(state="running")
    elif harm == "longer":
        folder.update(target=1.0)
    elif harm == "cut":
        networks.write_bytes(networks.read_bytes()[:-100])
    elif harm == "empty":
        shutil.rmtree(copy / "pretrain")
    else:
        folder.spec.write_text("{")
    with pytest.raises(SkinGanError, match=says):
        with_source(tmp_path, copy)
    assert not (tmp_path / "aegan_lr").exists()
