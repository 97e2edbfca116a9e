"""Tables of an ablation: the verdicts on arms whose truth is known, and what is missing or damaged."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from report_samples import ASKED, COMBINED, STRONGEST, damage, folder_of, make_run, write_choices

from hpc import config
from hpc.ablation import choices_file
from hpc.report import tables as module
from hpc.report.costs import costs
from hpc.report.tables import BY_IMAGE, HEADLINE, PLAIN, POOLED, read_csv, tables, write_tables
from hpc.report.verdicts import statement
from skin_gan.ablation.predictions import load
from skin_gan.ablation.stats import holm
from skin_gan.run import append_jsonl, write_json

QUICK = 300  # resamples


def of(found: module.Tables, arm: str, base: str = STRONGEST, scope: str = POOLED, measure: str = HEADLINE):
    return found.gain("head", scope, arm, base, measure)


@pytest.fixture(scope="module")
def one_fold(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("one"))
    return run, tables(run, QUICK)


def test_an_arm_that_helps_one_that_harms_and_one_that_changes_nothing(one_fold):
    _, found = one_fold
    assert of(found, COMBINED).verdict == "helps"
    assert of(found, "shuffled").verdict == "harms"
    assert of(found, "strong", PLAIN).verdict == "no benefit shown"
    assert of(found, STRONGEST, PLAIN).verdict == "helps"
    assert of(found, "best").verdict == "harms"  # against class weights; not against nothing
    assert of(found, "best", PLAIN).verdict == "no benefit shown"
    assert of(found, COMBINED).gain == pytest.approx(0.12, abs=0.04)


def test_the_headline_is_the_combined_arm_against_the_strongest_conventional_one(one_fold):
    _, found = one_fold
    assert found.headline == of(found, COMBINED, STRONGEST, POOLED, HEADLINE)
    assert found.scopes == [POOLED]
    assert not found.missing
    assert not found.problems


def test_p_values_are_adjusted_over_the_arms_of_one_base_and_measure(one_fold):
    _, found = one_fold
    for measure in (HEADLINE, "recall_df"):
        family = [g for g in found.gains if (g.base, g.measure) == (PLAIN, measure)]
        assert len(family) == len(ASKED)  # the combined arm too, and not the base itself
        assert [g.p_adjusted for g in family] == pytest.approx(holm([g.p for g in family]))


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
    assert {(a["seeds"], a["folds"], a["images"], a["lesions"]) for a in arms} == {("0 1", "0", "390", "260")}
    assert list(gains[0])[-4:] == ["p_adjusted", "mde", "verdict", "why"]
    assert all(float(a["low"]) <= float(a["value"]) <= float(a["high"]) for a in arms)


def test_two_folds_are_pooled_and_the_search_s_own_is_shown_alone(tmp_path):
    found = tables(make_run(tmp_path, folds=(0, 1)), QUICK)
    images = {a.scope: (a.folds, a.images) for a in found.arms if a.arm == PLAIN}
    assert images == {POOLED: ("0 1", 780), "fold 0": ("0", 390)}
    assert of(found, COMBINED, scope="fold 0").verdict == "helps"
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
    e = config.load(run.settings)
    e.ablate.classifiers["head"] = replace(e.ablate.classifiers["head"], **changes)
    config.save(e, run.settings)


def test_runs_of_earlier_settings_are_gaps_and_are_never_compared(tmp_path):
    run = make_run(tmp_path)
    for arm in ("best", "strong"):
        for seed in range(2):
            file = folder_of(run, arm, 0, seed) / "test.npz"
            old = load(file)
            replace(old, record={**old.record, "classifier": {**old.record["classifier"], "steps": 20}}).save(
                file
            )
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
        record = {**old.record, "real": real, "samples": samples}
        replace(old, record={**record, "arm": {**record["arm"], "balance": balance}}).save(file)
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


@pytest.mark.parametrize("changes", [{"validation": {PLAIN: 0.6, "gone": 0.7}}, {"runs": ["another"]}])
def test_a_choice_from_other_runs_is_not_taken(tmp_path, changes):
    run = make_run(tmp_path)
    write_choices(run, **changes)
    found = tables(run, QUICK)
    assert found.headline is None and {g.base for g in found.gains} == {PLAIN}
    assert any("choices.json was fixed on runs of earlier settings" in p for p in found.problems)


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
    assert {a.scope for a in found.arms} == {POOLED, BY_IMAGE}
    assert {(g.arm, g.base) for g in found.gains if g.scope == BY_IMAGE} == {("best", PLAIN)}
    assert found.scopes == [POOLED] and found.headline.scope == POOLED


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
    assert found.sources == {"best": "best", "shuffled": "shuffled", COMBINED: "best"}
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
