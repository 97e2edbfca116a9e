"""Tables of an ablation: the verdicts on arms whose truth is known, and what is missing or damaged."""

import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from bench_samples import former_record
from report_samples import ASKED, CLASSES, COMBINED, STRONGEST, damage, folder_of, make_run, write_choices
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score

from hpc.plan.ablation import ArmTask, choices_file, classifier_settings, filter_file, sample_folder
from hpc.plan.sweep_plan import reopen
from hpc.report import tables as module
from hpc.report.page import write_report
from hpc.report.statement import statement
from hpc.report.tables import BY_IMAGE, HEADLINE, PLAIN, POOLED, costs, read_csv, tables, write_tables
from hpc.report.wording import gain, span
from hpc.settings import compose
from hpc.settings.ablation import ClassifierPlan, arms
from hpc.stages.current_runs import Current
from skin_gan.ablation.arms import ARMS
from skin_gan.ablation.classifiers import CLASSIFIERS
from skin_gan.ablation.measures import REALISED, SENSITIVITY
from skin_gan.ablation.predictions import Predictions, load
from skin_gan.ablation.runs import ArmRun, run_of, weights_of
from skin_gan.ablation.verdict import holm
from skin_gan.identity import content_hash
from skin_gan.io import append_jsonl, write_json
from skin_gan.words import CONTROL, NOT_JUDGED, NOTHING, RULED_OUT

QUICK = 300  # resamples
CNN = asdict(CLASSIFIERS["cnn"])
ALONE = "fold 0"  # the scope of a sweep that was tested on one fold


def of(found: module.Tables, arm: str, base: str = STRONGEST, scope: str = ALONE, measure: str = HEADLINE):
    return found.gain("head", scope, arm, base, measure)


@pytest.fixture(scope="module")
def one_fold(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("one"))
    return run, tables(run, QUICK)


def test_an_arm_that_helps_one_that_harms_and_one_that_changes_nothing(one_fold):
    _, found = one_fold
    assert of(found, COMBINED).verdict == "helps"
    assert of(found, "shuffled").verdict == "harms"
    assert of(found, "strong", PLAIN).verdict == RULED_OUT
    assert of(found, STRONGEST, PLAIN).verdict == "helps"
    assert of(found, "best").verdict == "harms"  # against class weights; not against nothing
    assert of(found, "best", PLAIN).verdict == RULED_OUT
    assert of(found, COMBINED).gain == pytest.approx(0.12, abs=0.04)


def test_the_headline_is_the_combined_arm_against_the_strongest_conventional_one(one_fold):
    _, found = one_fold
    assert found.headline == of(found, COMBINED, STRONGEST, ALONE, HEADLINE)
    assert found.scopes == [ALONE]
    assert not found.missing
    assert not found.problems


def test_p_values_are_adjusted_over_the_arms_of_one_base_and_measure(one_fold):
    _, found = one_fold
    for measure in (HEADLINE, "recall_df"):
        family = [g for g in found.gains if (g.base, g.measure) == (PLAIN, measure)]
        assert len(family) == len(ASKED)  # the combined arm too, and not the base itself
        assert [g.p_adjusted for g in family] == pytest.approx(holm([g.p for g in family]))
        assert {g.comparisons for g in family} == {len(ASKED)}


def test_the_headline_is_fixed_beforehand_and_is_not_adjusted_nor_is_the_plain_arm(one_fold):
    _, found = one_fold
    row = found.headline
    assert (row.comparisons, row.p_adjusted) == (1, row.p)
    assert of(found, PLAIN).comparisons == 1
    family = [of(found, arm) for arm in ("strong", "best", "shuffled")]
    assert [g.p_adjusted for g in family] == pytest.approx(holm([g.p for g in family]))
    assert of(found, COMBINED, measure="accuracy").comparisons == 4  # only its balanced accuracy was fixed


def altered(p: Predictions, **changes: object) -> Predictions:
    """The predictions with another record, as a run of this version would have it."""
    record = {**p.record, **changes}
    return replace(p, record={**record, "id": run_of(record).id})


def add_arms(run, like: dict[str, str], made: dict[str, int]) -> None:
    """Arms beyond those of `make_run`, with another's predictions and so many generated images per class."""
    e = compose.load(run.settings)
    plan = replace(e.ablate.classifiers["head"], ratios=[2.0], filters=["copies"])
    e.ablate.classifiers["head"] = plan
    compose.save(e, run.settings)
    for name, other in like.items():
        for seed in range(2):
            p = load(folder_of(run, other, 0, seed) / "test.npz")
            arm = asdict(arms(e.ablate, plan)[name])
            altered(p, arm=arm, synthetic=dict.fromkeys(p.classes, made.get(name, 40))).save(
                folder_of(run, name, 0, seed) / "test.npz"
            )
    write_choices(run, validation=dict.fromkeys([*ASKED, *like], 0.5))


def test_a_run_of_two_names_counts_once_and_random_controls_and_empty_arms_not_at_all(tmp_path):
    run = make_run(tmp_path)
    twin, random, empty = "best@2", "best/random as copies", "best/copies"
    add_arms(run, {twin: "best", random: "best", empty: PLAIN}, {empty: 0, random: 41})
    found = tables(run, QUICK)
    assert of(found, twin).p_adjusted == of(found, "best").p_adjusted
    assert (of(found, twin).same_run_as, of(found, "best").same_run_as) == ("best", twin)
    assert {a.same_run_as for a in found.arms if a.arm == twin} == {"best"}
    assert (of(found, random).verdict, of(found, "best").verdict) == (CONTROL, "harms")
    assert {of(found, arm).comparisons for arm in ("strong", "best", twin, "shuffled")} == {3}
    assert {of(found, arm, PLAIN).comparisons for arm in ("strong", "best", twin, COMBINED)} == {len(ASKED)}
    assert of(found, empty).verdict == of(found, empty, PLAIN).verdict == NOTHING
    assert {(g.generated, g.kept) for g in found.given if g.arm == empty} == {(0, None)}


def test_a_filter_says_what_it_kept(tmp_path):
    run = make_run(tmp_path)
    add_arms(run, dict.fromkeys(["best/copies", "best/random as copies"], "best"), {})
    for label in CLASSES:
        write_json(filter_file(run, 0, label), {"copies": {"share": 0.25, "kept": [0]}})
    kept = {g.arm: (g.generated, g.kept) for g in tables(run, QUICK).given if g.label == "df"}
    assert kept["best/copies"] == kept["best/random as copies"] == (40, 0.25)
    assert kept["best"] == (40, None) and kept[PLAIN] == (0, None)


@pytest.mark.slow
def test_melanoma_s_threshold_is_that_of_validation_images_of_each_fold_and_seed(tmp_path):
    run = make_run(tmp_path, folds=(0, 1))
    assert not [a for a in tables(run, QUICK).arms if a.measure == SENSITIVITY], "no validation images"
    for fold in (0, 1):
        for seed in range(2):
            p = load(folder_of(run, PLAIN, fold, seed) / "test.npz")
            sure = 0.1 + 0.8 * np.eye(3)[p.labels] if fold == 0 else np.full((len(p.labels), 3), 0.9)
            p = replace(p, probabilities=sure)  # fold 1 asks for more than any of its test images has
            p.save(folder_of(run, PLAIN, fold, seed) / "val.npz")
    found = tables(run, QUICK)
    rows = {(a.scope, a.measure): a for a in found.arms if a.arm == PLAIN}
    alone, both = (rows[scope, SENSITIVITY] for scope in (ALONE, POOLED))
    assert 0.5 < alone.value < 0.7 and both.value == pytest.approx(alone.value / 2, abs=0.01)
    assert alone.lesions == 80 and rows[ALONE, "accuracy"].lesions == 260
    assert rows[POOLED, REALISED].value > rows[ALONE, REALISED].value >= 0.8
    assert not found.problems
    replace(p, record={**p.record, "id": "another"}).save(folder_of(run, PLAIN, 1, 1) / "val.npz")
    found = tables(run, QUICK)
    assert any("val.npz is of another run" in problem for problem in found.problems)
    assert (PLAIN, POOLED, SENSITIVITY) not in {(a.arm, a.scope, a.measure) for a in found.arms}


def test_a_lower_calibration_error_is_a_gain(one_fold):
    _, found = one_fold
    value = {a.arm: a.value for a in found.arms if a.measure == "ece"}
    for arm in (COMBINED, "shuffled"):
        assert of(found, arm, PLAIN, measure="ece").gain == pytest.approx(value[PLAIN] - value[arm])


def test_the_files_hold_every_row_and_say_how_many_images_it_rests_on(one_fold, tmp_path):
    _, found = one_fold
    write_tables(found, tmp_path)
    arms, gains = (read_csv(tmp_path / f"{name}.csv") for name in ("arms", "gains"))
    assert len(arms) == len(found.arms) and len(gains) == len(found.gains)
    assert list(arms[0])[:6] == ["classifier", "arm", "scope", "seeds", "folds", "measure"]
    assert {(a["seeds"], a["folds"], a["images"]) for a in arms} == {("0 1", "0", "390")}
    lesions = {a["measure"]: a["lesions"] for a in arms}
    assert (lesions[HEADLINE], lesions["recall_df"], lesions["recall_nv"]) == ("260", "60", "120")
    assert list(arms[0])[-1] == "same_run_as" and {a["same_run_as"] for a in arms} == {""}
    assert list(gains[0])[-5:] == ["p_adjusted", "mde", "verdict", "why", "same_run_as"]
    assert all(float(a["low"]) <= float(a["value"]) <= float(a["high"]) for a in arms)


def test_two_folds_are_pooled_and_the_search_s_own_is_shown_alone(tmp_path):
    found = tables(make_run(tmp_path, folds=(0, 1)), QUICK)
    images = {a.scope: (a.folds, a.images) for a in found.arms if a.arm == PLAIN}
    assert images == {POOLED: ("0 1", 780), "fold 0": ("0", 390)}
    assert of(found, COMBINED, scope=ALONE).verdict == "helps"
    assert found.headline.scope == POOLED
    pooled, alone = (of(found, COMBINED, scope=scope) for scope in found.scopes)
    assert pooled.high - pooled.low < alone.high - alone.low


def test_until_the_other_folds_are_there_the_headline_is_the_search_s_own(tmp_path):
    run = make_run(tmp_path, folds=(0, 1))
    shutil.rmtree(folder_of(run, COMBINED, 1, 0).parent)
    found = tables(run, QUICK)
    assert found.headline.scope == "fold 0"
    assert {(g.arm, g.split, g.why) for g in found.missing} == {(COMBINED, "fold-1", "not started")}


def test_missing_and_damaged_runs_are_named_and_the_arm_is_compared_on_the_seeds_it_has(tmp_path):
    run = make_run(tmp_path, seeds=3)
    shutil.rmtree(folder_of(run, "strong", 0, 2))
    (folder_of(run, "best", 0, 1) / "test.npz").unlink()
    damage(folder_of(run, "shuffled", 0, 0) / "test.npz")
    found = tables(run, QUICK)
    assert {(g.arm, g.seed): g.why.split(" (")[0] for g in found.missing} == {
        ("strong", 2): "not started",
        ("best", 1): "not finished",
        ("shuffled", 0): "ablation/head/shuffled/fold-0/seed-0/test.npz is damaged",
    }
    assert str(run.path) not in " ".join(g.why for g in found.missing)
    seeds = {a.arm: a.seeds for a in found.arms}
    assert (seeds["strong"], seeds["best"], seeds["shuffled"], seeds[PLAIN]) == ("0 1", "0 2", "1 2", "0 1 2")
    assert of(found, "shuffled").why.endswith("2 seeds")
    assert of(found, COMBINED).why.endswith("3 seeds")


def test_before_anything_is_chosen_arms_are_compared_with_the_plain_one_only(tmp_path):
    run = make_run(tmp_path)
    choices_file(run, "head").unlink()
    shutil.rmtree(folder_of(run, COMBINED, 0, 0).parents[1])
    found = tables(run, QUICK)
    assert found.headline is None
    assert {g.base for g in found.gains} == {PLAIN}
    assert {g.arm for g in found.missing} == {"combined"}


def test_a_damaged_choice_is_named(tmp_path):
    run = make_run(tmp_path)
    choices_file(run, "head").write_text('{"strong')
    found = tables(run, QUICK)
    assert found.headline is None
    assert "choices.json is not valid JSON" in found.problems[0]


def test_where_no_conventional_arm_helps_the_best_generator_is_held_against_the_plain_arm(tmp_path):
    run = make_run(tmp_path)
    shutil.rmtree(folder_of(run, COMBINED, 0, 0).parents[1])
    write_choices(run, strongest=PLAIN, combined=None)
    found = tables(run, QUICK)
    assert (found.headline.arm, found.headline.base) == ("best", PLAIN)
    assert not found.missing


def test_other_test_images_are_not_compared(tmp_path):
    run = make_run(tmp_path)
    for seed in range(2):
        other = load(folder_of(run, "best", 0, seed) / "test.npz")
        other.lesions[:] = "another"
        other.save(folder_of(run, "best", 0, seed) / "test.npz")
    found = tables(run, QUICK)
    assert of(found, "best") is None
    assert any("best" in p and "not tested on the same images" in p for p in found.problems)
    assert of(found, COMBINED).verdict == "helps"


def ask(run, **changes) -> None:
    """Other settings of the classifier than those of the runs on disk."""
    e = compose.load(run.settings)
    e.ablate.classifiers["head"] = replace(e.ablate.classifiers["head"], **changes)
    compose.save(e, run.settings)


def test_runs_of_earlier_settings_are_gaps_and_are_never_compared(tmp_path):
    run = make_run(tmp_path)
    for arm in ("best", "strong"):
        for seed in range(2):
            file = folder_of(run, arm, 0, seed) / "test.npz"
            old = load(file)
            altered(old, classifier={**old.record["classifier"], "steps": 20}).save(file)
    found = tables(run, QUICK)
    assert {(g.arm, g.why) for g in found.missing} == {
        (arm, "of earlier settings (steps is now 1500): launch again") for arm in ("best", "strong")
    }
    assert {a.arm for a in found.arms} == {PLAIN, STRONGEST, "shuffled", COMBINED}
    ask(run, steps=40)
    found = tables(run, QUICK)
    assert not found.arms and len(found.missing) == 2 * (len(ASKED) + 1)


def test_other_counts_or_images_make_a_run_one_of_earlier_settings(tmp_path):
    run = make_run(tmp_path)
    file = folder_of(run, "best", 0, 0) / "test.npz"
    old = load(file)
    real = {"df": 60, "mel": 80, "nv": 100}

    def why(balance, samples) -> list[str]:
        arm = {**old.record["arm"], "balance": balance}
        altered(old, real=real, samples=samples, arm=arm).save(file)
        return [g.why for g in tables(run, 2).missing]

    assert why({"df": 40, "mel": 20, "nv": 0}, {}) == []
    assert why({"df": 60, "mel": 80, "nv": 100}, {}) == [
        "of earlier settings (balance is now equalise): launch again"
    ]
    gone = why({"df": 40, "mel": 20, "nv": 0}, {"df": "0123", "mel": "4567"})
    assert gone == ["of earlier settings (other images of df, mel): launch again"]


def test_what_is_not_asked_for_any_more_is_left_out_and_said(tmp_path):
    run = make_run(tmp_path, seeds=3)
    shutil.copytree(run.path / "ablation" / "head", run.path / "ablation" / "cnn")
    ask(run, seeds=2, arms=[arm for arm in ASKED if arm != "strong"])
    found = tables(run, QUICK)
    assert found.classifiers == ["head"] and {a.seeds for a in found.arms} == {"0 1"}
    assert "strong" not in {a.arm for a in found.arms}
    assert any(p.startswith("head: runs of earlier settings are left out: ") and "strong" in p
               for p in found.problems)  # fmt: skip
    assert any(p.startswith("cnn: runs of earlier settings are left out: best, ") for p in found.problems)


def test_a_choice_by_another_measure_is_not_taken(tmp_path):
    run = make_run(tmp_path)
    assert "by balanced accuracy" in statement(tables(run, QUICK), [], {}).support[0]
    write_choices(run, by="macro_auc")
    found = tables(run, QUICK)
    assert found.headline is None
    assert any(
        "was decided by macro_auc, and ablate.choose_by is balanced_accuracy" in p for p in found.problems
    )


@pytest.mark.parametrize("changes", [{"validation": {PLAIN: 0.6, "gone": 0.7}}, {"runs": ["another"]}])
def test_a_choice_from_other_runs_is_not_taken(tmp_path, changes):
    run = make_run(tmp_path)
    write_choices(run, **changes)
    found = tables(run, QUICK)
    assert found.headline is None and {g.base for g in found.gains} == {PLAIN}
    assert any("choices.json, fold 0, was fixed on runs of earlier settings" in p for p in found.problems)


def test_repeated_photographs_may_be_what_is_to_be_beaten(tmp_path):
    run = make_run(tmp_path)
    write_choices(run, strongest="strong", treatment=STRONGEST, generated="best")
    found = tables(run, QUICK)
    assert (found.headline.arm, found.headline.base) == (COMBINED, "strong")
    said = statement(found, [], {}).support[0]
    assert "added to class weights, the strongest that adds none" in said


def test_a_split_by_image_is_a_scope_of_its_own_and_no_headline(tmp_path):
    run = make_run(tmp_path)
    ask(run, by_image=True)
    for arm in (PLAIN, "best"):
        for seed in range(2):
            source = load(folder_of(run, arm, 0, seed) / "test.npz")
            source.save(folder_of(run, arm, None, seed) / "test.npz")
    found = tables(run, QUICK)
    assert {a.scope for a in found.arms} == {ALONE, BY_IMAGE}
    assert {(g.arm, g.base) for g in found.gains if g.scope == BY_IMAGE} == {("best", PLAIN)}
    assert found.scopes == [ALONE] and found.headline.scope == ALONE


def test_a_sweep_without_any_run_gives_empty_tables(tmp_path):
    run = make_run(tmp_path)
    shutil.rmtree(run.path / "ablation")
    found = tables(run, QUICK)
    assert not found.arms and not found.gains and found.headline is None
    assert len(found.missing) == 2 * (len(ASKED) + 1)
    write_tables(found, tmp_path)
    assert (tmp_path / "arms.csv").read_text().startswith("classifier,arm,scope")


def test_what_arms_were_given_and_what_they_cost(one_fold):
    run, found = one_fold
    assert found.sources == {"best": ("best",), "shuffled": ("shuffled",), COMBINED: ("best",)}
    assert found.unverified == {"shuffled"}
    append_jsonl(run.trials / "df" / "0000-a" / "metrics.jsonl", {"kimg": 1.0, "seconds": 1800.0})
    append_jsonl(run.trials / "df" / "0000-a" / "metrics.jsonl", {"kimg": 4.0, "seconds": 7200.0})
    write_json(run.jobs / "generate-fold-0.json", {"started": 100.0, "ended": 460.0})
    hours = {(c.stage, c.part): (c.trainings, c.device_hours) for c in costs(run, found.seconds)}
    assert hours == {("search", "df"): (1, 2.0), ("generate", ""): (0, pytest.approx(0.1)),
                     ("ablate", "head"): (12, pytest.approx(0.12))}  # fmt: skip


@pytest.mark.parametrize("name", ["hpc.report.tables", "hpc.report"])
def test_tables_and_report_need_no_torch(name):
    code = f"import sys, {name}; print({{'torch', 'ray', 'submitit'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_combined_arm_of_an_earlier_version_is_a_gap_and_the_others_are_still_taken(tmp_path):
    """Its class weights were by the counts of photographs and generated images together."""
    run = make_run(tmp_path)
    for arm in (COMBINED, "best", STRONGEST):
        for seed in range(2):
            file = folder_of(run, arm, 0, seed) / "test.npz"
            p = load(file)
            record = former_record(p.record)
            keys = ("classifier", "arm", "seed", "split", "samples")
            values = {"schema": 1, **{k: dict(record[k]) if k == "arm" else record[k] for k in keys}}
            del values["arm"]["name"]
            replace(p, record={**record, "id": content_hash(values)}).save(file)
    found = tables(run, QUICK)
    assert {(g.arm, g.why) for g in found.missing} == {
        (
            COMBINED,
            "of earlier settings (an earlier version weighted generated images differently): launch again",
        )
    }
    assert {a.arm for a in found.arms} == set(ASKED) and found.headline is None


def test_runs_of_the_version_before_are_taken_and_those_of_a_later_one_are_gaps(tmp_path):
    run = make_run(tmp_path)
    now = tables(run, QUICK)
    for arm in (*ASKED, COMBINED):
        for seed in range(2):
            file = folder_of(run, arm, 0, seed) / "test.npz"
            p = load(file)
            record = former_record(p.record)
            replace(p, record={**record, "id": run_of(record).id}).save(file)
            assert load(file).record["id"] != p.record["id"]
    found = tables(run, QUICK)
    assert repr((found.arms, found.gains, found.missing)) == repr((now.arms, now.gains, []))  # some are NaN
    p = load(file := folder_of(run, "strong", 0, 1) / "test.npz")
    replace(p, record={**p.record, "schema": 9}).save(file)
    p = load(file := folder_of(run, "shuffled", 0, 0) / "test.npz")
    replace(p, record={**p.record, "arm": {**p.record["arm"], "warmth": 1}}).save(file)
    gaps = {(gap.arm, gap.seed): gap.why for gap in tables(run, QUICK).missing}
    assert gaps.keys() == {("strong", 1), ("shuffled", 0)}
    assert "schema 9" in gaps["strong", 1] and "another version" in gaps["shuffled", 0]
    assert all("launch again" in why and "\n" not in why for why in gaps.values())


def test_pretrained_weights_may_be_moved_but_not_replaced(tmp_path):
    current = Current(reopen(make_run(tmp_path)))
    first, moved = tmp_path / "first.pth", tmp_path / "moved.pth"
    first.write_bytes(b"weights")
    moved.write_bytes(b"weights")
    plan = ClassifierPlan(arms=[PLAIN], pretrained=str(first))
    settings = classifier_settings("resnet18", plan, current.e.trial.model.size)
    made = asdict(ArmRun(settings, ARMS[PLAIN], 0, "fold0", weights=weights_of(str(first))))

    def changed(pretrained, record):
        current.e.ablate.classifiers = {"resnet18": replace(plan, pretrained=str(pretrained))}
        current.weights.cache_clear()
        return current.changed(ArmTask("resnet18", PLAIN, 0), ARMS[PLAIN], record)

    assert changed(first, made) == changed(moved, made) == []
    assert changed(moved, former_record(made)) == [f"pretrained is now {moved}"]  # by its path alone
    for place in (first, moved):
        place.write_bytes(b"others")
        assert changed(place, made) == [f"pretrained is now {place}"]
    first.unlink()
    assert changed(first, made) == [], "what was there is not known any more"


@pytest.fixture(scope="module")
def own_choices(tmp_path_factory):
    """Two folds: fold 1 found focal loss the strongest, and put generated images on top of nothing."""
    run = make_run(tmp_path_factory.mktemp("own"), folds=(0, 1))
    for seed in range(2):
        shutil.rmtree(folder_of(run, COMBINED, 1, seed))
    write_choices(run, fold=1, strongest="strong", treatment=PLAIN, combined="best")
    return run, tables(run, QUICK)


def test_each_fold_is_judged_by_its_own_choice(own_choices):
    """The pooled pair is fold 0's combined arm with fold 1's, against the same of the strongest arms."""
    run, found = own_choices
    row = found.headline
    assert (row.scope, row.arm, row.base) == (POOLED, "combined", "strongest") and not found.missing
    gains = []
    for fold, (arm, base) in enumerate([(COMBINED, STRONGEST), ("best", "strong")]):
        for name, sign in ((arm, 1), (base, -1)):
            for seed in range(2):
                p = load(folder_of(run, name, fold, seed) / "test.npz")
                gains.append(sign * balanced_accuracy_score(p.labels, p.probabilities.argmax(1)) / 4)
    assert row.gain == pytest.approx(sum(gains), abs=1e-6)  # the folds have equally many images of each class
    alone = of(found, COMBINED)
    assert (alone.base, alone.scope) == (STRONGEST, ALONE) and alone.gain > row.gain
    assert found.sources["combined"] == ("best",)


def test_what_each_fold_chose_is_said_in_words_and_on_the_page(own_choices, tmp_path):
    run, found = own_choices
    said = " ".join(statement(found, [], {}).support)
    assert (
        "Each fold chose by its own validation lesions: fold 0 + best generator, class weights against class "
        "weights; fold 1 + best generator against strong augmentation" in said
    )
    page = write_report(run, found, [], tmp_path).read_text()
    assert "in each fold on its own" in page and "Fold 1. Strongest conventional arm: strong aug" in page


def test_choices_of_an_earlier_version_are_opened_for_one_fold_and_named_for_several(tmp_path):
    old = {"strongest": STRONGEST, "treatment": STRONGEST, "generated": "best", "ratio": None, "filter": None,
           "combined": COMBINED, "validation": dict.fromkeys(ASKED, 0.5)}  # fmt: skip
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", folds=(0, 1))
    for run in (one, two):
        write_json(choices_file(run, "head"), old)
    assert tables(one, QUICK).headline.arm == COMBINED
    found = tables(two, QUICK)
    assert found.headline is None
    assert any("earlier version, which chose for all folds together: launch" in p for p in found.problems)


def test_scores_of_different_folds_are_not_ranked_together(tmp_path):
    """Fold 1's classifier is as good as fold 0's and gives half as much to every rare class."""
    run = make_run(tmp_path, folds=(0, 1))
    areas = []
    for fold in (0, 1):
        for seed in range(2):
            file = folder_of(run, PLAIN, fold, seed) / "test.npz"
            p = load(file)
            scores = p.probabilities + 0.05 * np.random.default_rng(fold).random(p.probabilities.shape)
            if fold:
                scores[:, :2] *= 0.2
            scores /= scores.sum(1, keepdims=True)
            replace(p, probabilities=scores).save(file)
            areas.append(roc_auc_score(p.labels, scores, multi_class="ovr", average="macro"))
    found = tables(run, QUICK)
    value = {a.scope: a.value for a in found.arms if (a.arm, a.measure) == (PLAIN, "macro_auc")}
    assert value[POOLED] == pytest.approx(np.mean(areas), abs=1e-6)
    assert value[ALONE] == pytest.approx(np.mean(areas[:2]), abs=1e-6)


def test_a_classifier_near_chance_has_no_verdict_on_any_arm(tmp_path):
    """Three classes: chance is a third. The combined arm gains 12 points all the same."""
    run = make_run(tmp_path, skill={PLAIN: 0.36})
    found = tables(run, QUICK)
    assert {g.verdict for g in found.gains} == {NOT_JUDGED}
    row = found.headline
    assert row.gain == pytest.approx(0.12, abs=0.04) and row.low > 0
    said = statement(found, [], {})
    assert said.word == NOT_JUDGED
    assert said.sentence.startswith(
        "Not judged: the classifier has not learnt: its balanced accuracy on real"
    )
    assert "where chance is 33.3% and at least 38.3% is asked for" in said.sentence
    assert "would be found" not in " ".join(said.support)


def test_a_plain_arm_whose_loss_has_not_fallen_has_no_verdict_either(tmp_path):
    run = make_run(tmp_path)
    for seed in range(2):
        file = folder_of(run, PLAIN, 0, seed) / "test.npz"
        p = load(file)
        replace(p, record={**p.record, "loss": [(10 * k, 1.0) for k in range(1, 41)]}).save(file)
    assert tables(run, QUICK).headline.verdict == NOT_JUDGED


def test_another_classifier_that_contradicts_stands_in_the_headline(tmp_path):
    run = make_run(tmp_path)
    shutil.copytree(run.path / "ablation" / "head", run.path / "ablation" / "cnn")
    for seed in range(2):  # to the CNN, generated images do harm
        place = run.path / "ablation" / "cnn"
        for arm in [*ASKED, COMBINED]:
            file = place / arm / "fold-0" / f"seed-{seed}" / "test.npz"
            p = (
                load(place / "shuffled" / "fold-0" / f"seed-{seed}" / "test.npz")
                if arm == COMBINED
                else load(file)
            )
            record = load(file).record
            altered(replace(p, record=record), classifier={**record["classifier"], **CNN}).save(file)
    e = compose.load(run.settings)
    e.ablate.classifiers["cnn"] = replace(e.ablate.classifiers["head"])
    compose.save(e, run.settings)
    found = tables(run, QUICK)
    other = found.verdict("cnn")
    assert (found.headline.verdict, other.verdict) == ("helps", "harms")
    said = statement(found, [], {})
    assert said.beside == [
        "Another classifier says otherwise (cnn, a small network trained from scratch): harms, "
        f"{gain(other.gain)} points {span(other.low, other.high)} over class weights."
    ]
    assert not found.problems and not found.missing


def test_classes_without_generated_images_and_missed_melanomas_stand_in_the_headline(tmp_path):
    run = make_run(tmp_path)
    fewer = {}
    for seed in range(2):
        file = folder_of(run, COMBINED, 0, seed) / "test.npz"
        p = load(file)
        q = p.probabilities.copy()
        q[p.labels == 1] = [0.8, 0.1, 0.1]  # every melanoma is taken for a dermatofibroma
        altered(replace(p, probabilities=q), synthetic={"df": 40, "mel": 0, "nv": 0}).save(file)
        base = load(folder_of(run, STRONGEST, 0, seed) / "test.npz")
        fewer[seed] = -recall_score(base.labels, base.probabilities.argmax(1), labels=[1], average=None)[0]
    found = tables(run, QUICK)
    lines = statement(found, [], {}).beside
    assert lines[0] == "No generated images were added to mel, nv."
    fall = of(found, COMBINED, measure="recall_mel")
    assert fall.gain == pytest.approx(np.mean([*fewer.values()])) and fall.high < 0
    assert lines[1].startswith(f"Melanomas are found less often: {gain(fall.gain)} points of recall of mel")
    assert len(lines) == 2 and statement(tables(make_run(tmp_path / "b"), QUICK), [], {}).beside == []


def test_rejected_and_poor_generators_are_named_only_where_they_were_used(tmp_path):
    run = make_run(tmp_path)
    cards = {("best", "df"): (False, ["copies: many"]), ("best", "mel"): (True, ["KID: 219.0"]),
             ("best", "nv"): (True, []), ("dcgan", "nv"): (False, ["coverage: none"])}  # fmt: skip
    for (source, label), (accepted, reasons) in cards.items():
        manifest = {"accepted": accepted, "reasons": reasons}
        write_json(sample_folder(run, 0, source) / label / "manifest.yaml", manifest)  # JSON is YAML
    found = tables(run, QUICK)
    assert (found.rejected, found.poor) == (["df of best"], ["mel of best"])
    warned = statement(found, [], {}).warnings
    assert "Images of generators that the selection calls rejected were used: df of best." in warned
    assert "Images of generators that the selection calls poor were used: mel of best." in warned
    e = compose.load(run.settings)
    compose.save(replace(e, allow_rejected=True), run.settings)
    shutil.rmtree(sample_folder(run, 0, "best"))
    found = tables(run, QUICK)
    assert not found.rejected and not any("rejected" in line for line in statement(found, [], {}).warnings)
