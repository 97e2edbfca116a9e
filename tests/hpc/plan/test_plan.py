"""Plans: identity, order, cost, and what extending a sweep keeps."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpc.plan.sweep_plan import expected_kimg, make_plan, reopen, run_folder, trial_specs
from hpc.settings.compose import compose, save
from skin_gan.data.resolve import describe
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import write_json

SEARCH_ALONE = "ablate.classifiers={}"


def plan_of(*words: str, results: Path):
    e = compose(["sweep=aegan_lr", "data=demo", f"results={results}", *words])
    return make_plan(e, describe(e.data, results))


def test_a_plan_writes_nothing(tmp_path):
    plan = plan_of("budget=demo", results=tmp_path)
    assert [s.name for s in plan.stages] == [
        "prepare", "search", "select", "generate", "ablate", "combine", "report",
    ]  # fmt: skip
    assert [j.label for j in plan.stages[1].jobs] == plan.experiment.classes
    assert list(tmp_path.iterdir()) == []


def test_more_trials_or_longer_rungs_keep_the_sweep_and_its_trials(tmp_path):
    short = plan_of("budget=short", results=tmp_path)
    longer = plan_of(
        "budget=short", "search.trials=16", "search.rungs=[4,12,36,108]", "classes=[df]", results=tmp_path
    )
    assert longer.run == short.run
    assert longer.trials("df")[:8] == short.trials("df")


def test_a_sweep_of_the_schema_before_is_found_with_its_trials(tmp_path):
    """Hashes as the version before made them, for these settings and this fingerprint."""
    data = SimpleNamespace(name="demo", fingerprint="0123456789abcdef")
    e = compose(["sweep=aegan_lr", "data=demo", "classes=[df]", f"results={tmp_path}"])
    before = tmp_path / "aegan_lr" / "demo-91a1392e"
    assert run_folder(e, data).path != before
    before.mkdir(parents=True)
    save(e, before / "sweep.yaml")
    write_json(before / "provenance.json", {"data": {"fingerprint": data.fingerprint}})
    assert run_folder(e, data).path == before
    plan = reopen(RunFolder(before))
    specs = [spec for spec, _ in plan.trials("df")]
    assert {spec.schema for spec in specs} == {1}
    assert {spec.id for spec in specs}.isdisjoint(s.id for s in trial_specs(e, data.fingerprint, "df"))


@pytest.mark.parametrize("change", ["seed=1", "fold=1", "trial.train.batch=16", "trial.optim.lr_g=1e-3"])
def test_what_changes_results_changes_the_folder(tmp_path, change):
    assert plan_of(change, results=tmp_path).run != plan_of(results=tmp_path).run


@pytest.mark.parametrize(
    "change", ["operations.threads=2", "evaluate.images=64", "profile.slots=3", "select.max_copies=0.1"]
)
def test_how_it_runs_does_not(tmp_path, change):
    assert plan_of(change, results=tmp_path).run == plan_of(results=tmp_path).run


def test_trials_of_a_class_are_distinct(tmp_path):
    plan = plan_of("search.trials=200", results=tmp_path)
    folders = [f.path for c in ("df", "nv") for _, f in plan.trials(c)]
    seeds = {spec.seed for c in ("df", "nv") for spec, _ in plan.trials(c)}
    assert len(set(folders)) == len(seeds) == 400


def test_trial_zero_is_the_published_setting(tmp_path):
    plan = plan_of(results=tmp_path)
    assert plan.trials("df")[0][0].settings == plan.experiment.trial
    drawn = replace(plan.experiment, search=replace(plan.experiment.search, baseline=False))
    assert trial_specs(drawn, plan.data, "df")[0].settings != plan.experiment.trial


def test_an_unknown_class_names_those_there_are(tmp_path):
    with pytest.raises(SkinGanError, match=r"unknown class xyz: demo has akiec, bcc, bkl, df, mel, nv, vasc"):
        plan_of("classes=[df,xyz]", results=tmp_path)


def test_expected_training_is_successive_halving():
    e = compose(["sweep=aegan_lr", "search.trials=9", "search.rungs=[4,12,36]"])
    assert expected_kimg(e.search) == pytest.approx(9 * 4 + 3 * 8 + 1 * 24)
    e = compose(["sweep=aegan_lr", "search.trials=9", "search.rungs=[4,12,36]", "search.scheduler=none"])
    assert expected_kimg(e.search) == 9 * 36


def test_an_array_has_a_job_per_trial(tmp_path):
    words = ("backend=array", "search.scheduler=none", "search.trials=3", "classes=[df,nv]", SEARCH_ALONE)
    plan = plan_of(*words, results=tmp_path)
    search = plan.stages[1]
    assert [job.name for job in search.jobs[:4]] == [
        "search-df-0000", "search-df-0001", "search-df-0002", "search-nv-0000",
    ]  # fmt: skip
    assert plan.trials_of(search.jobs[1]) == [plan.trials("df")[1]]
    assert plan.run == plan_of(results=tmp_path).run
    assert plan.kimg == plan_of(*words[1:], results=tmp_path).kimg


def test_a_final_training_is_a_stage_of_the_same_sweep(tmp_path):
    plan = plan_of("final.kimg=100", "classes=[df,nv]", SEARCH_ALONE, results=tmp_path)
    assert [job.name for job in plan.stages[-1].jobs] == ["final-df", "final-nv"]
    assert plan.stages[-1].after == ("select",)
    assert plan.run == plan_of(results=tmp_path).run


def test_processes_that_cannot_share_a_batch_are_an_error_before_any_work(tmp_path):
    words = ("cluster=several_nodes", "final.kimg=1", "trial.train.batch=32", SEARCH_ALONE)
    assert plan_of(*words, results=tmp_path).stages[-1].name == "final"
    with pytest.raises(SkinGanError, match="3 nodes with 4 processes each cannot share batches of 32"):
        plan_of(*words, "profile.nodes=3", results=tmp_path)
