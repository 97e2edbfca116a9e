"""The ablation's stages: what is asked for, what is made of it, on two folds of the built-in data."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bench_samples import MeanColour, make_store, new_images, write_set
from data_samples import pack
from file_counts import CODE, PER_JOB, files
from plans import complete
from sklearn.metrics import balanced_accuracy_score

from hpc.cli.launch import launch
from hpc.jobs.task import Task
from hpc.plan import ablation
from hpc.plan.ablation import ArmTask
from hpc.plan.sample_sources import read_source
from hpc.plan.sweep_plan import (
    ABLATE,
    COMBINE,
    GENERATE,
    PREPARE,
    REPORT,
    SEARCH,
    SELECT,
    Plan,
    make_plan,
    stages_of,
)
from hpc.report.page import write_report
from hpc.report.publish import arm_table, publish, published
from hpc.report.statement import controls
from hpc.report.tables import BY_IMAGE, HEADLINE, read_csv, tables
from hpc.report.wording import arm_title
from hpc.settings.ablation import AblateSettings, ClassifierPlan, check_ablate
from hpc.settings.compose import ROOT, compose, save
from hpc.settings.compose import load as load_settings
from hpc.stages.classify import Arms
from hpc.stages.inputs import Inputs
from hpc.state.provenance import record_launch
from skin_gan.ablation.arm import on_top
from skin_gan.ablation.arms import ARMS, CONTROLS
from skin_gan.ablation.frozen import CHUNK
from skin_gan.ablation.parts import image_split, leak, lesion_split
from skin_gan.ablation.predictions import load
from skin_gan.ablation.samples import read_samples
from skin_gan.ablation.trainingset import training_set
from skin_gan.data.resolve import resolve
from skin_gan.data.store import fold_fingerprint
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED
from skin_gan.generate import write_set as write_images
from skin_gan.generator import read_card
from skin_gan.io import write_json
from skin_gan.training.session import SHEETS, Session

pytestmark = pytest.mark.slow  # a whole ablation is trained
CLASSES = ["df", "vasc"]
WORDS = [
    "sweep=aegan_lr", "data=demo", "budget=micro", "cluster=local", "classes=[df,vasc]", "search.trials=1",
    "search.rungs=[0.064]", "ablate.folds=[0,1]",
    "ablate.classifiers={cnn: {arms: [real, best], seeds: 1, steps: 3, by_image: true}, head: {arms: [real, "
    "class_weights, duplicate, best, aegan], seeds: 2, steps: 20, ratios: [0.5], filters: [copies]}, "
    "dermamnist: {arms: [real], seeds: 1, steps: 1, by_lesion: false, by_image: true}}",
]  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    """A sweep whose search has ended, and all that comes after it but the report."""
    results = tmp_path_factory.mktemp("results")
    e = compose([*WORDS, f"results={results}"])
    store = resolve(e.data, ablation.sizes(e.ablate, 32), results)
    plan = make_plan(e, store)
    record_launch(plan, store, WORDS)
    for stage in plan.stages[:-1]:
        for job in stage.jobs:
            if stage.name == SEARCH:
                search(plan, job.label)
            else:
                Task(str(plan.run.path), job.stage, job.label, 1)()
    return plan


def search(plan: Plan, label: str) -> None:
    """What a search comes to, without Ray: it is tested elsewhere."""
    (spec, folder), inputs = plan.trials(label)[0], Inputs(plan)
    session = Session(spec, folder, inputs.split(label), plan.experiment.operations, plan.experiment.evaluate)
    session.advance(plan.experiment.search.rungs[-1], inputs.judge(label))
    session.finish(COMPLETED)
    session.close()


def test_every_arm_fold_and_seed_has_predictions(plan):
    a = plan.experiment.ablate
    for task in ablation.arm_tasks(a):
        for seed in range(a.classifiers[task.classifier].seeds):
            folder = ablation.arm_folder(plan.run, task, seed)
            parts = {p.stem for p in folder.glob("*.npz")}
            assert parts == ({"test"} if task.fold is None else {"val", "test"}), folder
            record = load(folder / "test.npz").record
            assert record["honest"] == (task.fold is not None)
    assert {t.fold for t in ablation.arm_tasks(a)} == {0, 1, None}


def test_generators_of_another_fold_have_not_seen_its_test_lesions(plan):
    store = Inputs(plan).store
    for fold in (0, 1):
        assert leak(store, lesion_split(store, fold)).seen_images == 0
        home = plan.run if fold == 0 else ablation.fold_folder(plan.run, fold, "aegan")
        for label in CLASSES:
            card = read_card(home.best(label) / "generator.yaml")
            assert (card["fold"], card["fold_fingerprint"]) == (fold, fold_fingerprint(store, fold))
            chosen = read_card(plan.run.best(label) / "generator.yaml")
            assert card["optim"] == chosen["optim"] and card["seed"] == chosen["seed"]
        made = read_samples(ablation.sample_folder(plan.run, fold, "best"), 32)
        assert {s.fold_fingerprint for s in made.values()} == {fold_fingerprint(store, fold)}


def test_generated_and_repeated_images_are_as_many(plan):
    counts = {}
    for arm in ("best", "duplicate"):
        folder = ablation.arm_folder(plan.run, ArmTask("head", arm, 0), 0)
        record = load(folder / "test.npz").record
        counts[arm] = {c: record["real"][c] + record["synthetic"][c] for c in record["real"]}
        assert sum(record["synthetic"].values()) == (0 if arm == "duplicate" else counts[arm]["df"]
                                                     + counts[arm]["vasc"] - record["real"]["df"]
                                                     - record["real"]["vasc"])  # fmt: skip
    assert counts["best"] == counts["duplicate"]
    assert counts["best"]["df"] == counts["best"]["vasc"] == max(counts["best"].values())


# Training photographs in a fold of HAM10000, three fifths of each class.
TRAINING = {"nv": 4023, "mel": 668, "bkl": 659, "bcc": 308, "akiec": 196, "vasc": 85, "df": 69}


def test_a_full_sweep_stays_under_twenty_thousand_files(plan):
    """32 trials of each of seven classes, and all that follows: the files of a part, times the parts there.

    The most that is possible: no trial is stopped early, and each was interrupted.
    """
    run, full = plan.run, compose(["sweep=aegan_lr", "budget=full", "data=demo", f"classes={[*TRAINING]}"])
    a, labels = full.ablate, [*TRAINING]
    trial = max(files(f.path) - files(f.samples) for label in CLASSES for _, f in plan.trials(label))
    trial += 1 + 3 * SHEETS  # an event file more, and all sheets
    sets = {path.parent for path in run.path.glob("samples/*/*/*/manifest.yaml")}
    one_set = max(map(files, sets)) + 1  # its filters' file
    one_run = max(files(path.parent) for path in run.path.glob("ablation/*/*/*/*/test.npz")) + 1  # its lock
    cache = Inputs(plan).cache
    one_class = (files(cache) - files(cache / "samples")) / (len(CLASSES) * len(plan.experiment.ablate.folds))
    in_folds, sources = len(labels) * len(a.folds), ablation.sources(a)
    runs = sum(a.classifiers[t.classifier].seeds for t in ablation.arm_tasks(a) + ablation.combined_tasks(a))
    images = [
        ablation.images_needed(a, s, TRAINING, label) for s in sources for label in labels for _ in a.folds
    ]
    # Of each set an arm reads the first n, so that the last chunk of features is one of its own.
    arms_of_head = sum(bool(arm.source) for arm in ablation.arms(a, a.classifiers["head"]).values())
    chunks = sum(-(-n // CHUNK) + arms_of_head for n in images) + 256
    folders = (full.search.trials + len(a.folds) - 1) * len(labels)
    counted = {
        "trials": folders * trial, "generators": in_folds * files(run.best("df")),
        "sample sets": in_folds * len(sources) * one_set, "features of samples": chunks,
        "features of photographs": in_folds * one_class, "classifier runs": runs * one_run,
        "jobs": PER_JOB * sum(len(stage.jobs) for stage in stages_of(full)), "code": CODE, "report": 50,
    }  # fmt: skip
    assert sum(images) > 500_000, "the number of PNG files that there were"
    assert sum(counted.values()) < 20_000, counted


@contextmanager
def set_by_an_earlier_version(plan: Plan, label: str) -> Iterator[Path]:
    """In the block the class's set is of PNG files; after it all is as it was, jobs' records too."""
    place = ablation.sample_folder(plan.run, 0, "best") / label
    aside, records = plan.run.path / "aside", {p: p.read_bytes() for p in plan.run.jobs.glob("*.json")}
    made = read_samples(place.parent, 32, [label])[label]
    place.rename(aside)
    write_images(place, dict(made.origin), made.images.transpose(0, 2, 3, 1), png=True)
    try:
        yield place
    finally:
        shutil.rmtree(place)
        aside.rename(place)
        for path, content in records.items():
            path.write_bytes(content)


def test_sets_of_image_files_by_an_earlier_version_stay_and_no_classifier_is_trained_again(plan):
    made = read_source(plan.run, plan.experiment, "best", 0)["df"]
    assert isinstance(made.images, np.memmap)
    with set_by_an_earlier_version(plan, "df") as place:
        runs, images = (
            {path: path.stat().st_mtime_ns for path in paths}
            for paths in (plan.run.path.glob("ablation/head/best/fold-0/*/*.npz"), place.iterdir())
        )
        for stage, label in ((GENERATE, "df-fold-0"), (ABLATE, "head-best-fold-0")):
            Task(str(plan.run.path), stage, label, 1)()
        assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == images and len(images) > 3
        assert {path: path.stat().st_mtime_ns for path in runs} == runs and len(runs) == 4
        assert read_source(plan.run, plan.experiment, "best", 0)["df"].fingerprint() == made.fingerprint()


def test_a_filter_and_its_control_keep_as_many_images(plan):
    for label in CLASSES:
        verdict = json.loads(ablation.filter_file(plan.run, 0, label).read_text())["copies"]
        kept, random = verdict["kept"], verdict["random"]
        assert len(kept) == len(random) == len(set(random))
        assert verdict["share"] == pytest.approx(
            len(kept) / len(read_samples(ablation.sample_folder(plan.run, 0, "best"), 32)[label].images)
        )


def test_what_is_on_top_of_what_is_fixed_on_validation_images(plan):
    """Of each fold by itself: another fold's validation lesions may be its test lesions."""
    classifier = plan.experiment.ablate.classifiers["head"]
    by_fold = ablation.choices(plan.run, "head", [0, 1])
    assert set(by_fold) == {0, 1}
    for fold, chosen in by_fold.items():
        assert set(chosen["validation"]) == set(ablation.arms(plan.experiment.ablate, classifier))
        for arm, value in chosen["validation"].items():
            runs = [
                load(ablation.arm_folder(plan.run, ArmTask("head", arm, fold), s) / "val.npz") for s in (0, 1)
            ]
            right = [balanced_accuracy_score(p.labels, p.probabilities.argmax(1)) for p in runs]
            assert value == pytest.approx(np.mean(right))
        value = chosen["validation"].__getitem__
        assert (chosen["by"], set(chosen["measured"])) == ("balanced_accuracy", set(chosen["validation"]))
        assert chosen["strongest"] == max(("real", "class_weights", "duplicate"), key=value)
        assert chosen["treatment"] == max(("real", "class_weights"), key=value)
        folder = ablation.arm_folder(plan.run, ArmTask("head", chosen["combined"], fold), 1)
        record = load(folder / "test.npz").record
        assert record["arm"]["class_weights"] == (chosen["treatment"] == "class_weights")


def test_generated_images_on_top_of_class_weights_are_another_run(plan):
    """Both classes are filled up to the same size: weights by all images would all be 1."""
    arms = Arms(plan, Inputs(plan))
    classifier = plan.experiment.ablate.classifiers["head"]
    known = ablation.arms(plan.experiment.ablate, classifier)
    on = on_top(known["best"], known["class_weights"])
    arms.train_arm(ArmTask("head", on.name, 0), classifier, on, lambda **_: None)
    runs = {name: load(ablation.arm_folder(plan.run, ArmTask("head", name, 0), 0) / "test.npz")
            for name in ("best", on.name)}  # fmt: skip
    counts = [{c: p.record["real"][c] + p.record["synthetic"][c] for c in CLASSES} for p in runs.values()]
    assert counts[0] == counts[1] and counts[0]["df"] == counts[0]["vasc"]
    apart = np.abs(runs["best"].probabilities - runs[on.name].probabilities)
    assert apart.max() > 1e-3, "half of df's say is its photographs', which are a few of its images"


@pytest.mark.slow
def test_arms_of_equal_content_are_trained_once_and_named_as_equal(plan, tmp_path):
    """The sweep's only source is AEGAN, so that the best generator of each class is AEGAN's."""
    seconds = {}
    for arm in ("best", "aegan"):
        for fold in (0, 1):
            record = load(ablation.arm_folder(plan.run, ArmTask("head", arm, fold), 1) / "test.npz").record
            seconds[arm, fold] = record["seconds"]
            assert record.get("same_as") == {"best": None, "aegan": "best"}[arm]
    assert [s for (arm, _), s in seconds.items() if arm == "aegan"] == [0.0, 0.0]
    found = tables(plan.run, 20)
    same = {a.arm: a.same_run_as.split("; ") for a in found.arms
            if (a.classifier, a.scope, a.measure) == ("head", "pooled", HEADLINE)}  # fmt: skip
    assert "aegan" in same["best"] and "best" in same["aegan"] and same["real"] == [""]
    assert len({g.gain for g in found.gains if g.arm in ("best", "aegan") and (g.classifier, g.scope, g.base,
                g.measure) == ("head", "pooled", "real", HEADLINE)}) == 1  # fmt: skip
    page = write_report(plan.run, found, [], tmp_path).read_text()
    assert re.search(r"\+ AEGAN<span class=.role.>same run as [^<]*\+ best generator", page)
    rows = [a for a in found.arms if (a.classifier, a.scope) == ("head", "pooled")]
    assert any(line.startswith("| + AEGAN (the same run as") for line in arm_table(found, rows, ["real"]))


@pytest.mark.slow
def test_a_published_setting_is_shown_beside_its_numbers(plan, tmp_path):
    found = tables(plan.run, 20)
    numbers = {row.measure: row.published for row in found.published}
    assert numbers == {"accuracy": 0.735, "macro_auc": 0.917}
    record = load(ablation.arm_folder(plan.run, ArmTask("dermamnist", "real", None), 0) / "test.npz").record
    assert (record["classifier"]["size"], record["honest"]) == (28, False)
    row = found.published[0]
    assert row.train_images == sum(record["real"].values()) == pytest.approx(3.5 * row.test_images, rel=0.01)
    assert row.epochs == pytest.approx(128 / row.train_images)
    assert not [a for a in found.arms if a.classifier == "dermamnist" and a.scope != BY_IMAGE]
    assert found.classifiers == ["cnn", "head", "dermamnist"] and not found.missing
    page = write_report(plan.run, found, [], tmp_path).read_text()
    assert "Beside published numbers" in page and row.differs in page
    assert "| accuracy | 73.5 |" in "\n".join(published(found))


@contextmanager
def away(path: Path) -> Iterator[None]:
    aside = path.with_name("aside")
    path.rename(aside)
    yield
    aside.rename(path)


def test_what_was_removed_is_made_again(plan):
    a, done = plan.experiment.ablate, {job.name: job for stage in plan.stages for job in stage.jobs}
    predicted = partial(ablation.arm_folder, plan.run)
    made = {
        "generate-df-fold-0": ablation.sample_folder(plan.run, 0, "best") / "df",
        "ablate-head-best-fold-1": predicted(ArmTask("head", "best", 1), 1) / "test.npz",
        "ablate-cnn-real-by-image": predicted(ArmTask("cnn", "real", None), 0) / "test.npz",
        "combine-head-combined-fold-0": ablation.choices_file(plan.run, "head"),
    }
    for name, path in made.items():
        assert complete(plan, done[name]), name
        with away(path):
            assert not complete(plan, done[name]), name
    val = predicted(ArmTask("head", "real", 0), 0) / "val.npz"
    content = val.read_bytes()
    val.write_bytes(content[:-100])
    assert not complete(plan, done["ablate-head-real-fold-0"]), "a cut file is no prediction"
    val.write_bytes(content)
    file = ablation.choices_file(plan.run, "head")
    whole = file.read_text()
    chosen = json.loads(whole)["folds"]
    file.write_text(json.dumps({"folds": {"1": chosen["1"]}}))
    assert not complete(plan, done["combine-head-combined-fold-0"])
    assert complete(plan, done["combine-head-combined-fold-1"])
    file.write_text(json.dumps(chosen["0"]))
    assert not complete(plan, done["combine-head-combined-fold-0"]), "an earlier version chose otherwise"
    file.write_text(whole)
    other = replace(plan.experiment, ablate=replace(a, balance=2.0))
    assert not complete(replace(plan, experiment=other), done["ablate-head-real-fold-0"])


def test_jobs_that_ended_are_complete_and_do_nothing_again(plan):
    jobs = [job for stage in plan.stages[:-1] for job in stage.jobs]
    assert all(complete(plan, job) for job in jobs)
    assert not complete(plan, plan.stages[-1].jobs[0])
    before = {p: p.stat().st_mtime_ns for p in plan.run.path.glob("ablation/**/*.npz")}
    for job in jobs:
        if job.stage == ABLATE:
            Task(str(plan.run.path), job.stage, job.label, 1)()
    assert before and {p: p.stat().st_mtime_ns for p in before} == before


def test_tensorboard_gets_a_row_per_run(plan):
    folder = ablation.arm_folder(plan.run, ArmTask("cnn", "best", 1), 0)
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1


def test_a_sample_set_of_another_fold_is_refused(plan):
    samples = read_samples(ablation.sample_folder(plan.run, 1, "best"), 32)
    store, arm = Inputs(plan).store, replace(ARMS["best"], balance={label: 4 for label in samples})
    with pytest.raises(SkinGanError, match="another fold"):
        training_set(store, lesion_split(store, 0), 32, arm, samples)


@pytest.fixture(scope="module")
def controlled(tmp_path_factory) -> Plan:
    """A report on the controls alone, which need no generator; features are the colours of 4x4 pixels."""
    results = tmp_path_factory.mktemp("controls")
    words = ["sweep=aegan_lr", "budget=micro", "data=demo", f"results={results}", "ablate.balance=1.0",
             "ablate.classifiers={head: {arms: [real, test_copies, shuffled_labels, noise], seeds: 2, steps: "
             "600, by_image: true}}"]  # fmt: skip
    e = compose(words)
    store = resolve(e.data, [32], results)
    plan = make_plan(e, store)
    record_launch(plan, store, words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inputs, "extractor", MeanColour())
        for stage in plan.stages:
            for job in stage.jobs if stage.name in (GENERATE, ABLATE, COMBINE, REPORT) else ():
                Task(str(plan.run.path), job.stage, job.label, 1)()
    return plan


@pytest.mark.slow
def test_the_bench_can_tell_what_leaks_and_what_harms(controlled):
    found = tables(controlled.run)
    verdicts = {g.arm: g.verdict for g in found.gains if (g.scope, g.measure) == ("fold 0", HEADLINE)}
    assert verdicts == {"test_copies": "leakage", "shuffled_labels": "harms", "noise": "harms"}
    leaked = found.gain("head", "fold 0", "test_copies", "real")
    assert leaked.low > 0, "by number it helps"
    assert found.leaking == {"test_copies"}


@pytest.mark.slow
def test_controls_are_marked_in_the_report_and_are_not_the_headline(controlled):
    found = tables(controlled.run)
    assert all(expected for _, _, expected in controls(found)) and len(controls(found)) == 3
    assert found.headline is None and ablation.choices(controlled.run, "head", [0])[0]["combined"] is None
    page = (controlled.run.path / "report" / "index.html").read_text()
    for said in ("control: copies of test images", "control: wrong labels", "control: noise", "images leak",
                 "test_copies/df", "leakage, as it must be"):  # fmt: skip
        assert said in page
    assert "Caught leaking" not in page, "that is said of arms that are to be believed"
    assert not (controlled.run.path / "report" / "quiz.html").exists()
    assert {a.arm for a in found.arms if a.scope == BY_IMAGE} == {"real"}


@pytest.mark.slow
def test_a_control_is_a_sample_set_as_any_other(controlled):
    run, store = controlled.run, Inputs(controlled).store
    for source in CONTROLS:
        made = read_samples(ablation.sample_folder(run, 0, source), 32)
        assert set(made) == set(store.classes)
        assert {s.fold_fingerprint for s in made.values()} == {fold_fingerprint(store, 0)}
    file = next(ablation.sample_folder(run, 0, "noise").glob("df/manifest.yaml"))
    before = file.stat().st_mtime_ns
    Task(str(run.path), GENERATE, "df-fold-0", 1)()
    assert file.stat().st_mtime_ns == before, "what is there is not made again"


ALLOWED = "ablate.unverified=true"


def of_others(place: Path, labels: list[str], size: int = 32, made_for: str | None = None) -> Path:
    for label in labels:
        write_set(place, label, new_images("mel", 80, size), made_for)
    return place


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Plan:
    """Images that somebody else made, judged without a generator of this sweep."""
    folder = of_others(tmp_path / "images", ["df"])
    words = ["sweep=aegan_lr", "budget=micro", "data=demo", f"results={tmp_path / 'results'}",
             "ablate.unverified=true", f"ablate.sources.mine={folder}", "ablate.balance={df: 40}",
             "ablate.classifiers={head: {arms: [real, class_weights, mine], seeds: 1, "
             "steps: 20}}"]  # fmt: skip
    monkeypatch.setattr(Inputs, "extractor", MeanColour())
    e = compose(words)
    store = resolve(e.data, [32], tmp_path / "results")
    plan = make_plan(e, store)
    record_launch(plan, store, words)
    run_ablation(plan)
    return plan


def run_ablation(plan: Plan, *stages: str) -> None:
    for stage in plan.stages:
        for job in stage.jobs if stage.name in (stages or (SELECT, GENERATE, ABLATE, COMBINE)) else ():
            if job.stage == SELECT:
                write_json(plan.run.jobs / "select.json", {"state": "done", "started": 0.0, "ended": 0.0})
            else:
                Task(str(plan.run.path), job.stage, job.label, 1)()


def test_images_that_others_made_may_be_the_headline(mine):
    found = tables(mine.run, 20)
    chosen = ablation.choices(mine.run, "head", [0])[0]
    assert chosen["generated"] == "mine" and found.headline is not None
    assert (found.headline.arm, found.headline.base) == (chosen["combined"], chosen["strongest"])
    assert found.headline.arm.startswith("mine") and not found.missing and not found.problems


def test_replaced_images_are_trained_on_again_in_place(mine):
    jobs = [job for stage in mine.stages for job in stage.jobs if job.stage == ABLATE]
    assert all(complete(mine, job) for job in jobs)
    images = Path(mine.experiment.ablate.sources["mine"], "df")
    for image in images.iterdir():
        image.write_bytes((images / "00000.png").read_bytes())
    now = replace(mine)
    assert not any(complete(now, job) for job in jobs)
    found = tables(mine.run, 2)
    assert {(g.arm, g.why) for g in found.missing if g.arm == "mine"} == {
        ("mine", "of earlier settings (other images of df): launch again")
    }
    assert {a.arm for a in found.arms} == {"real", "class_weights"}
    run_ablation(now, ABLATE, COMBINE)
    assert all(complete(now, job) for job in jobs) and not tables(mine.run, 2).missing


def test_other_steps_train_again_in_place_and_nothing_is_mixed(mine):
    changed = replace(mine.experiment.ablate.classifiers["head"], steps=40)
    ablate = replace(mine.experiment.ablate, classifiers={"head": changed})
    save(replace(mine.experiment, ablate=ablate), mine.run.settings)
    Task(str(mine.run.path), ABLATE, "head-class_weights-fold-0", 1)()
    found = tables(mine.run, 2)
    assert {a.arm for a in found.arms} == {"class_weights"} and not found.gains
    assert {g.why for g in found.missing if g.arm != "combined"} == {
        "of earlier settings (steps is now 40): launch again"
    }
    with pytest.raises(SkinGanError, match="the arm real of head has not finished in fold 0"):
        Task(str(mine.run.path), COMBINE, "head-combined-fold-0", 1)()
    run_ablation(mine, ABLATE, COMBINE)
    found = tables(mine.run, 2)
    assert found.headline is not None and not found.missing and not found.problems


@pytest.mark.parametrize(
    ("labels", "size", "words", "message"),
    [
        (["melanoma", "df"], 32, [], "mine=.* has images under melanoma, which is no class: .* akiec, bcc"),
        (["df"], 32, [], "its images of df were made from .*: ablate.unverified=true uses them anyway"),
        (["nv"], 32, ["classes=[df]"], "has no images of df: expected a folder per class"),
        (["df"], 8, [ALLOWED], "images of df have 8x8 pixels: expected 32x32, or at least half"),
        (["df"], 32, ["ablate.classifiers.head.arms=[real]"], "no arm uses it: add mine to the arms"),
        (["df"], 32, [ALLOWED, "ablate.balance={foo: 3}"], "balance names foo: the classes are akiec"),
        (["df"], 32, [ALLOWED, "ablate.balance={df: -3}"], "expected a whole number of images"),
        (["df"], 32, [ALLOWED, "ablate.balance={df: 0}"], "no image would be added"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_used_are_an_error_before_any_work(tmp_path, labels, size, words, message):
    folder = of_others(tmp_path / "images", labels, size)
    given = ["ablate.classifiers={head: {arms: [real, mine]}}", f"ablate.sources.mine={folder}"]
    with pytest.raises(SkinGanError, match=message):
        planned(tmp_path, *given, *words)


def test_sets_of_another_size_fold_or_kind_are_an_error_before_any_work(tmp_path):
    store = resolve("demo", [32], tmp_path)
    given = ["ablate.classifiers={head: {arms: [real, mine]}}"]
    for name, size, fold, words, message in (
        ("large", 64, 0, [], "images of df have 64x64 pixels, and this sweep's 32x32: generate them"),
        ("other", 32, 1, [], "images of df were not made for fold 0 of this data"),
        ("right", 32, 0, ["ablate.folds=[0,1]"], "images of df were not made for fold 1 of this data"),
    ):  # fmt: skip
        folder = of_others(tmp_path / name, ["df"], size, fold_fingerprint(store, fold))
        with pytest.raises(SkinGanError, match=message):
            planned(tmp_path, *given, *words, f"ablate.sources.mine={folder}")
    inside = tmp_path / "inside"
    inside.mkdir()
    pack(inside / "df.zip", {"a.png": (folder / "df" / "00000.png").read_bytes()})
    with pytest.raises(SkinGanError, match=r"has images under df\.zip, which is no class"):
        planned(tmp_path, *given, f"ablate.sources.mine={inside}")


def test_what_is_done_with_other_peoples_images_is_told_at_launch(tmp_path):
    folder = of_others(tmp_path / "images", ["df", "nv"], 48)
    plan = planned(tmp_path, "ablate.classifiers={head: {arms: [real, mine]}}", "classes=[df,vasc]",
                   f"ablate.sources.mine={folder}", "ablate.unverified=true")  # fmt: skip
    assert plan.notes == (
        f"ablate.sources.mine={folder}: images of 48x48 pixels are cropped and scaled to 32x32",
        f"ablate.sources.mine={folder} has no images of vasc: its arm adds none to these classes",
    )


def planned(results: Path, *words: str) -> Plan:
    e = compose(["sweep=aegan_lr", "budget=micro", "data=demo", f"results={results}", *words])
    return make_plan(e, resolve("demo", [32], results))


def settings(**changes) -> AblateSettings:
    plan = ClassifierPlan(arms=changes.pop("arms", ["real", "best"]), **changes.pop("plan", {}))
    return AblateSettings(classifiers={changes.pop("classifier", "head"): plan}, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier": "vgg"}, "unknown classifier 'vgg': choose one of cnn, head, resnet18"),
        ({"arms": ["real", "bst"]}, "unknown arm bst: choose of .*real, .*strong"),
        ({"arms": ["real", "strong+mixp"]}, "unknown arm mixp: choose of .*mixup"),
        ({"arms": ["best"]}, "expected real among them"),
        ({"arms": ["real", "dcgan"]}, "this sweep searches aegan.*ablate.sources.dcgan"),
        ({"classifier": "dermamnist"}, "best need generated images, and dermamnist has images of 28 pixels"),
        ({"balance": None}, "balance=None: expected equalise, a ratio"),
        ({"balance": [1, 2]}, r"balance=\[1, 2\]: expected equalise, a ratio"),
        ({"plan": {"pretrained": "weights.pth"}}, "weights are for resnet18 and resnet50"),
        ({"classifier": "resnet18", "plan": {"pretrained": "no/w.pth"}}, "no/w.pth does not exist: download"),
        ({"plan": {"by_lesion": False}}, "by_lesion and by_image are false"),
    ],
)
def test_settings_that_mean_nothing_are_named(changes, message):
    with pytest.raises(SkinGanError, match=message):
        check_ablate(settings(**changes), "aegan")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{arms: [real, best, real]}", r"head.arms=.*expected each once, since the second would be the same"),
        ("{arms: [real, best], ratios: [1, 2, 1.0]}", r"head.ratios=.*expected each once"),
    ],
)
def test_an_arm_asked_for_twice_is_refused_at_a_launch_and_not_later(words, message, tmp_path):
    given = ["sweep=aegan_lr", "data=demo", f"results={tmp_path}", f"ablate.classifiers.head={words}"]
    with pytest.raises(SkinGanError, match=message):
        compose(given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noise", "ablate.sources.noise: noise is a control: choose another name"),
        ("best", "ablate.sources.best: best is the best of all generators"),
        ("aegan", "ablate.sources.aegan: aegan is what this sweep searches itself"),
        ("strong", "ablate.sources.strong: strong is an arm of its own"),
        ("combined", "combined is an arm of its own"),
        ("strongest", "strongest is an arm of its own"),
        ("../mine", "is not made of letters, digits, - and _ alone"),
    ],
)
def test_a_source_whose_name_is_taken_is_refused_at_a_launch_and_not_later(name, message, tmp_path):
    words = ["sweep=aegan_lr", "data=demo", f"results={tmp_path}", f"ablate={{sources: {{{name}: images}}}}"]
    with pytest.raises(SkinGanError, match=message):
        compose(words)
    e = compose(["sweep=aegan_lr", "data=demo", f"results={tmp_path}", "ablate.sources.mine=images"])
    assert e.ablate.sources == {"mine": str(Path("images").absolute())}
    e.ablate.sources = {name: "/images"}
    save(e, tmp_path / "sweep.yaml")
    assert load_settings(tmp_path / "sweep.yaml").ablate.sources == {
        name: "/images"
    }  # launched by an earlier version


def test_an_arm_of_other_peoples_images_is_named_by_its_source():
    a = settings(arms=["real", "mine"], sources={"mine": "/images"})
    check_ablate(a, "aegan")
    arm = ablation.arms(a, a.classifiers["head"])["mine"]
    assert (arm.synthetic, arm.source) == ("add", "mine")


def test_a_published_setting_has_its_own_size_and_split(tmp_path):
    a = settings(classifier="dermamnist", arms=["real", "class_weights"], plan={"by_image": True})
    assert ablation.sizes(a, 64) == [28, 64]
    assert ablation.sizes(settings(), 64) == [64]
    assert ablation.classifier_settings("dermamnist", ClassifierPlan(steps=7), 64).steps == 7
    tasks = [("real", 0), ("class_weights", 0), ("real", None)]
    assert [(t.arm, t.fold) for t in ablation.arm_tasks(a)] == tasks
    a.classifiers["dermamnist"].by_lesion = False
    assert [(t.arm, t.fold) for t in ablation.arm_tasks(a)] == [("real", None)]
    assert ablation.combined_tasks(a) == []
    parts = image_split(resolve("demo", [32], tmp_path), **ablation.image_shares("dermamnist")).parts
    shares = [(parts == part).mean() for part in ("train", "val", "test")]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.01)


def test_a_store_without_the_published_size_is_an_error_before_any_work(tmp_path):
    store = make_store(tmp_path / "store")
    words = ["sweep=aegan_lr", "budget=micro", f"data={store.path}", f"results={tmp_path / 'results'}",
             "ablate.classifiers={dermamnist: {arms: [real], by_image: true}}"]  # fmt: skip
    with pytest.raises(SkinGanError, match=r"no images of size 28 .*skin_gan.data ingest .* --size 28 --out"):
        launch(words)
    assert not (tmp_path / "results").exists()


def test_the_strongest_arm_is_conventional_and_a_filter_must_beat_chance():
    plan = ClassifierPlan(arms=["real", "class_weights", "duplicate", "best"], ratios=[1, 2],
                          filters=["copies", "distance"])  # fmt: skip
    plan.arms.append("test_copies")
    measured = {
        "real": 0.4, "class_weights": 0.6, "duplicate": 0.7, "test_copies": 0.9,
        "best": 0.5, "best@1": 0.48, "best@2": 0.55,
        "best/copies": 0.52, "best/random as copies": 0.53, "best/distance": 0.51,
        "best/random as distance": 0.5,
    }  # fmt: skip
    chosen = ablation.choose(measured, plan)
    assert chosen["strongest"] == "duplicate", "what costs nothing is what is to be beaten"
    assert chosen["treatment"] == "class_weights", "repeated photographs fill the place of generated ones"
    assert (chosen["generated"], chosen["ratio"], chosen["filter"]) == ("best", "best@2", "best/distance")
    arm = ablation.combined(settings(), plan, chosen)
    assert arm is not None and arm.name == "best/distance@2+class_weights"
    plan.arms += ["best+light", "best+minority", "best+class_weights"]
    measured |= {"best+light": 0.53, "best+minority": 0.52, "best+class_weights": 0.8}
    chosen = ablation.choose(measured, plan)
    assert chosen["way"] == "best+light", "class weights are no way of using images"
    arm = ablation.combined(settings(), plan, chosen)
    assert arm is not None and arm.name == "best/distance@2+light+class_weights"
    assert (arm.generated_weight, arm.balance, arm.filter, arm.minority) == (0.3, 2.0, "distance", False)
    assert ablation.choose(measured | {"best+light": 0.4, "best+minority": 0.4}, plan)["way"] is None


def test_arms_that_are_combined_by_name_are_conventional_and_may_be_the_strongest():
    plan = ClassifierPlan(arms=["real", "class_weights", "class_weights+mixup", "best", "best+class_weights"])
    measured = {"real": 0.4, "class_weights": 0.6, "class_weights+mixup": 0.7, "best": 0.5,
                "best+class_weights": 0.8}  # fmt: skip
    chosen = ablation.choose(measured, plan)
    assert (chosen["strongest"], chosen["generated"]) == ("class_weights+mixup", "best")
    arm = ablation.combined(settings(arms=plan.arms), plan, chosen)
    assert arm is not None and (arm.class_weights, arm.mix, arm.source) == (True, "mixup", "best")
    assert arm_title(arm.name) == "+ best generator, class weights, MixUp"


def test_the_measure_that_decides_is_a_setting_and_is_recorded():
    plan = ClassifierPlan(arms=["real", "class_weights", "focal", "best"])
    names = ("balanced_accuracy", "macro_auc", "balanced_log_loss")
    values = {"real": (0.4, 0.8, 1.0), "class_weights": (0.7, 0.7, 1.2), "focal": (0.5, 0.9, 1.1),
              "best": (0.5, 0.8, 0.9)}  # fmt: skip
    measured = {arm: dict(zip(names, of_arm, strict=True)) for arm, of_arm in values.items()}
    strongest = {}
    for by in names:
        chosen = ablation.choose_by(measured, plan, by)
        strongest[by] = chosen["strongest"]
        assert (chosen["by"], chosen["measured"]) == (by, measured)
        assert chosen["validation"] == {arm: of_arm[0] for arm, of_arm in values.items()}
    assert list(strongest.values()) == ["class_weights", "focal", "real"]


def test_without_the_best_generator_the_best_of_other_images_takes_its_place():
    a = settings(
        arms=["real", "class_weights", "mine", "theirs", "noise"], sources={"mine": "/", "theirs": "/"}
    )
    plan = a.classifiers["head"]
    measured = {"real": 0.4, "class_weights": 0.6, "mine": 0.5, "theirs": 0.45, "noise": 0.9}
    chosen = ablation.choose(measured, plan)
    assert (chosen["strongest"], chosen["generated"]) == ("class_weights", "mine")
    arm = ablation.combined(a, plan, chosen)
    assert arm is not None and (arm.name, arm.source) == ("mine+class_weights", "mine")
    del measured["mine"], measured["theirs"]
    assert ablation.combined(a, plan, ablation.choose(measured, plan)) is None


def test_images_are_wanted_for_the_hungriest_arm():
    a = settings(plan={"ratios": [2.0], "filters": ["copies"]})
    counts = {"df": 60, "nv": 100}
    assert ablation.images_needed(a, "best", counts, "df") == round(120 * ablation.POOL), (
        "a filter may choose of it"
    )
    assert ablation.images_needed(a, "best", counts, "nv") == round(200 * ablation.POOL)
    unfiltered = settings(plan={"ratios": [2.0]})
    assert ablation.images_needed(unfiltered, "best", counts, "df") == 120
    assert ablation.images_needed(a, "dcgan", counts, "df") == 0


def test_a_search_alone_has_no_further_stages(tmp_path):
    e = compose(
        ["sweep=aegan_lr", "budget=demo", "data=demo", f"results={tmp_path}", "ablate.classifiers={}"]
    )
    names = [s.name for s in make_plan(e, resolve("demo", [32], tmp_path)).stages]
    assert names[0] == PREPARE and ABLATE not in names


def test_a_source_that_is_not_there_is_an_error_before_any_work(tmp_path):
    arms = "ablate.classifiers={head: {arms: [real, mine]}}"
    words = ["sweep=aegan_lr", "budget=micro", "data=demo", arms]
    e = compose([*words, f"ablate.sources.mine={tmp_path / 'no'}"])
    with pytest.raises(SkinGanError, match=r"ablate.sources.mine=.*does not exist: give a sweep's folder"):
        make_plan(e, resolve("demo", [32], tmp_path))


def test_generated_images_alone_need_every_class(tmp_path):
    e = compose([*WORDS, f"results={tmp_path}", "ablate.classifiers.head.arms=[real,synthetic_only]"])
    plan = make_plan(e, resolve("demo", [32], tmp_path))
    assert plan.notes == ("left out: the arm synthetic_only, which needs generators of all classes",)
    assert plan.experiment.ablate.classifiers["head"].arms == ["real"]


@pytest.fixture(scope="module")
def reported(plan) -> Path:
    Task(str(plan.run.path), REPORT, "", 1)()
    return plan.run.path / "report"


@pytest.mark.slow
def test_generated_images_are_shown_beside_training_photographs_only(plan, reported):
    sheets = json.loads((reported / "sheets.json").read_text())["sheets"]
    assert [entry["class"] for entry in sheets] == CLASSES
    for entry in sheets:
        training = Inputs(plan).split(entry["class"]).train.image_ids
        assert entry["pairs"] and {pair["photograph"] for pair in entry["pairs"]} <= set(training)
        assert entry["source"] == "best"
        assert (reported / entry["generated"]).exists() and (reported / entry["nearest"]).exists()


@pytest.mark.slow
def test_every_set_is_searched_for_test_photographs(plan, reported):
    rows = read_csv(reported / "leakage.csv")
    assert {(row["fold"], row["source"], row["label"]) for row in rows} == {
        (fold, source, label) for fold in "01" for label in CLASSES for source in ("aegan", "best")
        if (ablation.sample_folder(plan.run, int(fold), source) / label).exists()
    }  # fmt: skip
    assert all(row["share"] and not row["why"].startswith("not judged") for row in rows)


@pytest.mark.slow
def test_what_may_be_committed_holds_no_photograph_and_no_path_of_the_machine(plan, reported, tmp_path):
    publish(plan, tmp_path)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    images = {name: content for name, content in files.items() if name.endswith((".png", ".jpg", ".html"))}
    assert images == {f"{c}.png": (plan.run.best(c) / "samples.png").read_bytes() for c in CLASSES}
    assert {"README.md", "arms.csv", "gains.csv", "published.csv", "leakage.csv"} <= set(files)
    for name, content in files.items():
        if name not in images:
            assert not [place for place in (plan.experiment.results, str(Path.home()), str(ROOT))
                        if place.encode() in content], name  # fmt: skip


def test_validation_decides_and_test_does_not(plan):
    """Test predictions that are replaced leave every choice as it was."""
    before = ablation.choices(plan.run, "head", [0, 1])
    for file in Path(plan.run.path, "ablation", "head").glob("*/fold-*/seed-*/test.npz"):
        p = load(file)
        worst = np.roll(np.eye(len(p.classes), dtype=np.float32)[p.labels], 1, axis=1)
        type(p)(p.classes, p.image_ids, p.lesions, p.labels, worst, p.record).save(file)
    Task(str(plan.run.path), "combine", "head-combined-fold-0", 1)()
    assert ablation.choices(plan.run, "head", [0, 1]) == before
