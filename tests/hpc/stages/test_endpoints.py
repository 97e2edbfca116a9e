"""Endpoints: fixed before testing, another source, photographs of another store, the order of their tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_samples import MeanColour, make_store, new_images, write_set
from sklearn.metrics import balanced_accuracy_score

from hpc.jobs.task import Task
from hpc.plan import ablation
from hpc.plan.ablation import ArmTask
from hpc.plan.sweep_plan import ABLATE, COMBINE, GENERATE, SELECT, Plan, make_plan
from hpc.report.endpoints import endpoint_rows, late
from hpc.report.leakage import outside_row
from hpc.report.page import write_report
from hpc.report.sample_sets import Sampled
from hpc.report.tables import HEADLINE, tables
from hpc.settings.compose import compose
from hpc.stages.inputs import Inputs
from hpc.state import endpoints
from hpc.state.endpoints import BY_LESION, HELD_OUT
from hpc.state.provenance import record_launch
from skin_gan.ablation.outside import OUTSIDE, open_outside
from skin_gan.ablation.parts import leak, lesion_split
from skin_gan.ablation.predictions import load
from skin_gan.data.store import Store, fold_fingerprint
from skin_gan.errors import SkinGanError
from skin_gan.io import write_json

pytestmark = pytest.mark.slow  # a whole ablation is trained
WORDS = ["sweep=aegan_lr", "budget=micro", "ablate.unverified=true", "ablate.balance={mel: 20}",
         "ablate.folds=[0,1]", "ablate.by_source=true",
         "ablate.classifiers={head: {arms: [real, class_weights, mine], seeds: 2, steps: 40}}"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("data") / "store", sources=("clinic", "practice"))


@pytest.fixture(scope="module")
def plan(tmp_path_factory, data) -> Plan:
    """Classifiers of two folds and two sources, tested outside too; images that nobody's GAN made."""
    place = tmp_path_factory.mktemp("endpoints")
    there = make_store(place / "there", first=200, upper=True)
    write_set(place / "images", "mel", new_images("mel", 30), None)
    words = [*WORDS, f"data={data.path}", f"results={place / 'results'}", f"ablate.external={there.path}",
             f"ablate.sources.mine={place / 'images'}"]  # fmt: skip
    plan = make_plan(compose(words), data)
    record_launch(plan, data, words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inputs, "extractor", MeanColour())
        for stage in plan.stages:
            for job in stage.jobs if stage.name in (SELECT, GENERATE, ABLATE, COMBINE) else ():
                if job.stage == SELECT:
                    write_json(plan.run.jobs / "select.json", {"state": "done", "started": 0.0, "ended": 0.0})
                else:
                    Task(str(plan.run.path), job.stage, job.label, 1)()
    return plan


@pytest.fixture(scope="module")
def found(plan):
    return tables(plan.run, 200)


def predicted(plan: Plan, arm: str, fold: int, seed: int, part: str):
    return load(ablation.arm_folder(plan.run, ArmTask("head", arm, fold), seed) / f"{part}.npz")


def test_a_source_that_is_tested_on_is_in_no_training_and_every_source_has_its_turn(plan, data):
    assert plan.experiment.ablate.folds == [0, 1, 5, 6]
    tested = []
    for fold, source in ((5, "clinic"), (6, "practice")):
        split = lesion_split(data, fold)
        assert set(data.column("dataset")[split.parts == "test"]) == {source}
        assert source not in set(data.column("dataset")[split.parts != "test"])
        assert leak(data, split).seen_images == 0 and {*split.parts} == {"train", "val", "test"}
        tested += predicted(plan, "real", fold, 0, "test").image_ids.tolist()
    assert sorted(tested) == sorted(data.column("image_id"))
    prints = {fold_fingerprint(data, fold) for fold in (0, 1, 5, 6)}
    assert len(prints) == 4


def test_outside_the_classifiers_of_all_folds_predict_together_and_are_compared_in_a_table(plan, found):
    rows = {a.arm: a for a in found.arms if (a.scope, a.measure) == (OUTSIDE, HEADLINE)}
    assert set(rows) >= {"real", "class_weights", "mine"} and rows["real"].folds == "0 1"
    by_seed = []
    for seed in (0, 1):
        both = [predicted(plan, "real", fold, seed, OUTSIDE) for fold in (0, 1)]
        assert {i.partition("-")[2][:2] for i in both[0].image_ids} <= {"20", "21", "22", "23"}
        mean = (both[0].probabilities + both[1].probabilities) / 2
        by_seed.append(balanced_accuracy_score(both[0].labels, mean.argmax(1)))
    assert rows["real"].value == pytest.approx(np.mean(by_seed)) and rows["real"].value > 0.6
    assert not (ablation.arm_folder(plan.run, ArmTask("head", "real", 5), 0) / f"{OUTSIDE}.npz").exists()


def test_endpoints_are_tested_in_their_order(plan, found):
    of_scope = [found.headline, found.endpoint(HELD_OUT), found.endpoint(OUTSIDE)]
    assert [row.scope for row in of_scope] == ["pooled", HELD_OUT, OUTSIDE]
    assert [row.p_adjusted for row in of_scope] == np.maximum.accumulate([row.p for row in of_scope]).tolist()
    assert found.scopes == ["pooled", "fold 0"] and not found.missing
    written = endpoints.read(plan.run)
    shown = endpoint_rows(found, written)
    assert [(e.name, e.verdict) for e in shown] == [(n, r.verdict) for n, r in
           zip((BY_LESION, HELD_OUT, OUTSIDE), of_scope, strict=True)]  # fmt: skip
    page = write_report(plan.run, found, [], plan.run.path / "report").read_text()
    assert "What was to be shown" in page and page.count("before it was tested") == 3
    assert str(Path(plan.experiment.ablate.external).parent) not in page
    assert "never trained, chosen or tuned on" in page and "held out in turn" in page


def test_what_is_seen_outside_chooses_nothing(plan):
    before = ablation.choices(plan.run, "head", [0, 1, 5, 6])
    for file in Path(plan.run.path, "ablation", "head").glob(f"*/fold-*/seed-*/{OUTSIDE}.npz"):
        p = load(file)
        replace(p, probabilities=np.roll(p.probabilities, 1, axis=1)).save(file)
    Task(str(plan.run.path), COMBINE, "head-combined-fold-0", 1)()
    assert ablation.choices(plan.run, "head", [0, 1, 5, 6]) == before


def test_photographs_outside_are_searched_for_copies_of_training_photographs(plan, monkeypatch):
    monkeypatch.setattr(Inputs, "extractor", MeanColour())
    sampled = Sampled(plan)
    row = outside_row(sampled, 0, "mel")
    assert (row.source, row.images, row.identical, row.caught) == (OUTSIDE, 30, 0, False)
    part, store = sampled.inputs.outside.part, sampled.inputs.store
    mine = np.flatnonzero((store.column("dx") == "mel") & (lesion_split(store, 0).parts == "train"))
    part.images[np.flatnonzero(part.labels == store.classes.index("mel"))[:1]] = store.pixels(32, mine[:1])
    assert outside_row(sampled, 0, "mel").identical == 1


def test_endpoints_stay_as_written_and_are_marked_if_changed_after_testing(plan, data):
    file = endpoints.file_of(plan.run)
    text = file.read_text()
    endpoints.fix(plan, data, "other")
    assert file.read_text() == text and not late(endpoints.read(plan.run))
    a = plan.experiment.ablate
    more = replace(a, classifiers={"head": replace(a.classifiers["head"], seeds=3)})
    endpoints.fix(replace(plan, experiment=replace(plan.experiment, ablate=more)), data, "other")
    assert [e["before_testing"] for e in endpoints.read(plan.run)] == [False] * 3
    assert "explores and confirms nothing" in late(endpoints.read(plan.run))[0]
    file.write_text(text)


def test_an_endpoint_added_later_is_fixed_before_its_own_test(tmp_path, data):
    words = [*WORDS[:-2], "ablate.classifiers={head: {arms: [real, class_weights], seeds: 1, steps: 5}}",
             f"data={data.path}", f"results={tmp_path}"]  # fmt: skip
    plan = make_plan(compose(words), data)
    record_launch(plan, data, words)
    assert [e["name"] for e in endpoints.read(plan.run)] == [BY_LESION]
    test = ablation.arm_folder(plan.run, ArmTask("head", "real", 0), 0) / "test.npz"
    test.parent.mkdir(parents=True)
    test.touch()
    later = replace(plan.experiment, ablate=replace(plan.experiment.ablate, by_source=True))
    endpoints.fix(replace(plan, experiment=later), data, "code")
    assert [(e["name"], e["before_testing"]) for e in endpoints.read(plan.run)] == [
        (BY_LESION, True), (HELD_OUT, True)
    ]  # fmt: skip


def test_a_set_that_cannot_be_an_endpoint_is_an_error_before_any_work(tmp_path, data):
    plain = make_store(tmp_path / "plain")
    words = ["sweep=aegan_lr", "budget=micro", f"results={tmp_path / 'results'}", f"data={plain.path}",
             "ablate.classifiers={head: {arms: [real]}}"]  # fmt: skip
    for more, message in (
        (f"ablate.external={data.path}", "ablate.external=.* shares 112 photographs with small, .* image_id"),
        (f"ablate.external={tmp_path / 'no'}", "ablate.external=.*no is not a store"),
        ("ablate.by_source=true", "has nothing in its column dataset: expected at least two sources"),
    ):
        with pytest.raises(SkinGanError, match=message):
            make_plan(compose([*words, more]), plain)
    other = make_store(tmp_path / "other", first=300)
    frame = other.manifest.replace({"dx": {"mel": "scc"}})
    frame.to_csv(other.path / "manifest.csv", index=False)
    (other.path / "store.json").write_text((other.path / "store.json").read_text().replace("mel", "scc"))
    with pytest.raises(
        SkinGanError, match="has the classes bcc, scc, nv: expected those of small, bcc, mel, nv"
    ):
        open_outside(other.path, plain, 32)
    with pytest.raises(SkinGanError, match="no images of size 64"):
        open_outside(make_store(tmp_path / "small", first=400).path, plain, 64)
