"""Confirmation: planned, on lesions that the search has not used, resumed, and followed by the selection."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from plans import complete, launched, plan_of

from hpc.cli.checks import too_small
from hpc.plan.sweep_plan import CONFIRM, SELECT, Job, Plan, class_of, confirm_run, run_identity
from hpc.report.page import write_report
from hpc.report.tables import Tables
from hpc.search.runner import Runner
from hpc.settings.compose import compose, save
from hpc.stages import confirm as stage
from hpc.stages.best import select, write_results
from hpc.stages.confirm import candidates, confirm
from hpc.stages.confirmation import decisions, sentences, write_confirmation
from hpc.stages.inputs import Inputs
from hpc.state.completion import inputs as read_by
from hpc.state.completion import target
from hpc.state.confirmed import told
from hpc.state.generators import chosen, read_card, training_of
from hpc.state.records import record
from hpc.state.snapshot import of_jobs
from skin_gan.data.resolve import resolve
from skin_gan.data.splits import assign_folds, split_parts
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, DIVERGED, TrialFolder
from skin_gan.io import append_jsonl, read_jsonl, write_json

SHORT = ("search.scheduler=none", "search.trials=4", "search.rungs=[0.016]", "trial.model.base=4",
         "cluster=local", "operations.device=cpu", "evaluate.grid=4", "trial.train.batch=8")  # fmt: skip
GOOD = {"copies": 0.0, "coverage": 0.9, "coverage_floor": 1.0, "kid_floor": 0.0}
LESIONS = 10


class Pixels:
    """Features [N,12] of images: the mean colour of each quarter."""

    name, fd_name, weights_sha, dimensions = "pixels", "FD-pixels", "pixels", 12

    def __call__(self, images: np.ndarray, progress: object = None) -> np.ndarray:
        x = np.asarray(images, np.float32) / 128 - 1
        n, _, h, w = x.shape
        return x.reshape(n, 3, 2, h // 2, 2, w // 2).mean((3, 5)).reshape(n, 12)


# --- planned


def test_it_is_off_by_default_and_then_all_is_as_before(tmp_path):
    off, other, on, more = (
        plan_of(tmp_path, *words)
        for words in ((), ("confirm.top=5",), ("confirm.seeds=3",), ("confirm.seeds=5", "confirm.top=1"))
    )
    assert CONFIRM not in {stage.name for stage in off.stages} and other.run == off.run
    assert on.run != off.run and more.run == on.run  # of the search only the half of the lesions is new
    assert on.trials("df")[0][0].id == off.trials("df")[0][0].id
    e = off.experiment
    assert run_identity(compose(["sweep=aegan_lr", "budget=micro"]), "0123456789abcdef", 2) == "421311cf"
    assert told(off.run, e) == [
        "The search's gain over the published setting is not confirmed (confirm.seeds=0): none is claimed."
    ]


@pytest.mark.parametrize(
    ("words", "settings"), [((), 4), (("search.trials=2",), 2), (("confirm.shared=true",), 6)]
)
def test_a_job_for_each_class_and_seed_comes_after_the_search_and_its_cost_is_known(
    tmp_path, words, settings
):
    plan = plan_of(tmp_path, "search.trials=8", "confirm.seeds=2", "ablate.classifiers={}", *words)
    assert [s.name for s in plan.stages] == ["prepare", "search", "confirm", "select"]
    jobs = plan.stages[2].jobs
    assert [job.name for job in jobs][:3] == ["confirm-df-seed-0", "confirm-df-seed-1", "confirm-nv-seed-0"]
    assert {job.kimg for job in jobs} == {settings * plan.experiment.search.rungs[-1]}
    assert plan.stages[3].after == ("confirm",) and class_of(jobs[0].name) == "df"


def test_what_could_not_be_confirmed_is_refused(tmp_path):
    with pytest.raises(SkinGanError, match=r"confirm\.seeds=1: expected 0, or at least 2"):
        compose(["sweep=aegan_lr", "confirm.seeds=1"])
    with pytest.raises(SkinGanError, match=r"search\.baseline=false leaves out: set search\.baseline=true"):
        compose(["sweep=aegan_lr", "confirm.seeds=2", "search.baseline=false"])
    groups = [f"lesion {i}" for i in range(23) for _ in range(2)]
    few = pd.DataFrame({"dx": "df", "group": groups})  # four or five lesions in each fold
    folds = assign_folds(few["group"], few["dx"])
    store = SimpleNamespace(manifest=few, parts=lambda fold: split_parts(folds, fold), classes=["df"],
                            grouped_by="lesions")  # fmt: skip
    one = plan_of(tmp_path, "classes=[df]").experiment
    halved = plan_of(tmp_path, "classes=[df]", "confirm.seeds=2").experiment
    assert not any("validation" in line for line in too_small(one, store))
    (line,) = too_small(halved, store)
    assert "2 lesions in one half of its validation where 3 are needed (confirm.seeds=0" in line


# --- trained


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A sweep of one class whose search has ended, with two new seeds to come."""
    monkeypatch.setattr(Inputs, "extractor", Pixels())
    monkeypatch.setattr(Inputs, "second", None)
    plan = launched(tmp_path, *SHORT, "search.trials=2", "confirm.seeds=2")
    resolve("demo", [32], tmp_path)
    runner = Runner(plan, "df")
    for index in range(2):
        runner.run(index)
    return plan


def run(plan: Plan, job: Job, work) -> Job:
    """A job runs as on its node."""
    with record(plan.run, job.name) as tell:
        tell(target=target(plan, job.stage), classes=plan.experiment.classes,
             inputs=read_by(plan, job, of_jobs(plan, [job])))  # fmt: skip
        work(plan, job.label, tell)
    return job


def test_new_trainings_are_measured_on_the_other_half_resumed_after_a_kill_and_exported(
    searched, monkeypatch
):
    plan = searched
    jobs = [Job(CONFIRM, f"df-seed-{seed}") for seed in range(2)]
    again, killed = stage.measured_again, []

    def stop(*given):
        if len(killed) == 1:
            killed.append(True)
            raise KeyboardInterrupt
        killed.append(False)
        return again(*given)

    monkeypatch.setattr(stage, "measured_again", stop)
    with pytest.raises(KeyboardInterrupt):
        run(plan, jobs[0], confirm)
    found = [c.training(plan, "df", 0) for c in candidates(plan, "df")]
    assert [f.state()["state"] for f in found] == [COMPLETED, COMPLETED]
    assert [f.confirmed.exists() for f in found] == [True, False]
    written = [f.last.stat().st_mtime_ns for f in found]
    for job in jobs:
        assert not complete(plan, job)
        assert complete(plan, run(plan, job, confirm))
    assert [f.last.stat().st_mtime_ns for f in found] == written  # trained once
    # The halves are apart, and together they are all.
    old, new = read_jsonl(plan.trials("df")[0][1].metrics)[-1], json.loads(found[0].confirmed.read_text())
    whole = Inputs(plan).judge("df").real
    assert old["n_lesions"] + new["n_lesions"] == len(set(whole.val.lesions.tolist()))
    assert old["split"] == whole.half(0).fingerprint and new["split"] == whole.half(1).fingerprint
    assert new["kid"] == pytest.approx(np.dot(new["by_lesion"], new["shares"]))
    # The selection follows.
    write_json(plan.run.provenance, {"data": {"kind": "demo"}})
    assert complete(plan, run(plan, Job(SELECT), select))
    card, (d,) = read_card(plan.run.best("df")), decisions(plan)[0]
    assert card["confirmed"] and card["metrics"]["split"] == new["split"]
    assert card["data_kind"] == "demo"  # on which the licence of an export depends
    assert "by_lesion" not in card["metrics"] and card["metrics"]["kimg"] == pytest.approx(0.016)
    folder = training_of(plan.run, card)
    assert folder.path.parent == confirm_run(plan.run).trials / "df" and folder.best.exists()
    assert card["setting"] == d.settings[d.chosen].candidate.name == folder.path.name[:4]
    assert chosen(plan, "df")[0].id == card["trial_id"]  # what a final training trains
    # Another result of the search makes all of it stale.
    plan.trials("df")[1][1].update(best_kid=-1.0)
    assert not any(complete(plan, job) for job in (*jobs, Job(SELECT)))


# --- decided


def write(folder: TrialFolder, kid: float, **more: object) -> None:
    """A trial that was measured once."""
    append_jsonl(folder.metrics, {"kid": kid, "kimg": 0.016, "images": 16, **GOOD, **more})
    folder.update(state=COMPLETED, reason="", kimg=0.016, kid=kid, best_kid=kid)


def retrained(folder: TrialFolder, kid: float, rng: np.random.Generator, **more: object) -> None:
    """A new training of this KID, on the other half, where lesions differ little."""
    write(folder, kid)
    by_lesion = kid + (off := rng.normal(0, 0.1, LESIONS)) - off.mean()
    shares = np.full(LESIONS, 1 / LESIONS)
    values = {"by_lesion": by_lesion.tolist(), "shares": shares.tolist(), "kid": kid, "images": 16}
    write_json(folder.confirmed, {**values, **GOOD, **more})


def decided(plan: Plan, kids: dict[str, dict[str, list[float | None]]], faults: dict[str, float]) -> None:
    """New trainings of these KIDs by class and setting; None: it diverged. `faults`: copies by setting."""
    rng = np.random.default_rng(0)
    for label, settings in kids.items():
        for c in candidates(plan, label):
            for seed, kid in enumerate(settings[c.name]):
                folder = c.training(plan, label, seed)
                if kid is None:
                    folder.update(state=DIVERGED, reason="loss_d not finite")
                else:
                    retrained(folder, kid, rng, copies=faults.get(c.name, 0.0))


def ended(tmp_path: Path, *words: str) -> Plan:
    """A sweep of two classes and four trials; by the search 0002 is best, then 0001, 0003, 0000."""
    plan = plan_of(tmp_path, *SHORT, "classes=[df,nv]", "confirm.seeds=3", "confirm.top=2", *words)
    for label in ("df", "nv"):
        for (_, folder), kid in zip(plan.trials(label), (60.0, 40.0, 30.0, 50.0), strict=True):
            write(folder, kid)
    return plan


SAME, GAIN, WORSE = [59.0, 60.0, 61.0], [39.0, 40.0, 41.0], [69.0, 70.0, 71.0]
WIDE = [20.0, 50.0, 80.0]


def test_the_table_says_what_is_known_of_each_setting_and_claims_no_more(tmp_path):
    plan = ended(tmp_path)
    kids = {
        "df": {"0000": SAME, "0002": GAIN, "0001": WORSE},
        "nv": {"0000": SAME, "0002": WIDE, "0001": [40.0, None, 40.0]},
    }
    decided(plan, kids, {})
    found = write_confirmation(plan)
    rows = {
        (r["class"], r["setting"]): r for r in csv.DictReader((plan.run.path / "confirmation.csv").open())
    }
    verdicts = {key: row["verdict"] for key, row in rows.items()}
    assert verdicts == {("df", "0000"): "published", ("df", "0002"): "better", ("df", "0001"): "worse",
                        ("nv", "0000"): "published", ("nv", "0002"): "not resolved",
                        ("nv", "0001"): "not known"}  # fmt: skip
    gain = rows["df", "0002"]
    assert [
        float(gain[k]) for k in ("kid", "kid_sd", "difference", "search_kid", "optimism")
    ] == pytest.approx([40.0, 1.0, -20.0, 30.0, -10.0])
    assert float(gain["low"]) < -20.0 < float(gain["high"]) < 0.0 and gain["seeds"] == "3"
    assert (rows["nv", "0001"]["diverged"], rows["nv", "0001"]["kid"]) == ("1", "")
    assert gain["chosen"] == gain["own_setting"] == "True" and gain["optim.lr_g"]
    assert rows["df", "0000"]["one_setting"] == "True"  # the only one that both classes trained
    assert rows["nv", "0002"]["chosen"] == "True"  # the lower mean, though not shown to be
    assert found["nv"].curse == pytest.approx(30.0 - 50.0)
    said = " ".join(told(plan.run, plan.experiment))
    assert (
        "gained over the published setting in df (3 new seeds" in said and "; in nv none is claimed" in said
    )
    assert "df: setting 0002, KID x1000 40.0 (sd 1.0), published 60.0: -20.0 [" in said
    assert "not resolved, so no gain is claimed" in said
    assert "on average 15.0 below the mean of new trainings" in said and "(df -10.0, nv -20.0)" in said
    training = TrialFolder(confirm_run(plan.run).trials / "df" / gain["generator"])
    assert read_jsonl(training.metrics)[-1]["kid"] == 39.0  # the best of its seeds on the search's half


def test_the_page_and_the_leaderboard_say_what_was_confirmed(tmp_path):
    plan = ended(tmp_path)
    decided(plan, {label: {"0000": SAME, "0002": GAIN, "0001": WORSE} for label in ("df", "nv")}, {})
    save(plan.experiment, plan.run.settings)
    rows, _ = write_results(plan)
    notes = {(row["class"], row["trial"][:4]): row["note"] for row in rows}
    assert notes["df", "0002"].endswith("confirmed by 3 new seeds: KID x1000 40.0 (sd 1.0)")
    assert "confirmed" not in (notes["df", "0003"] or "")
    page = write_report(plan.run, Tables([], 0), [], plan.run.path / "report").read_text()
    assert "The search gained over the published setting in df, nv" in page
    assert "chosen, this class</td>" in page and "40.0<span class" in page and "sd 1.0" in page
    assert "all classes</td>" in page and "of all trials" not in page


def test_a_generator_that_would_be_rejected_is_chosen_only_without_another(tmp_path):
    plan = ended(tmp_path)
    same = {"0000": SAME, "0002": GAIN, "0001": WORSE}
    decided(plan, {"df": same, "nv": same}, {"0002": 0.5, "0001": 0.5})
    (d, _), _ = decisions(plan)
    assert d.chosen == d.published


def test_with_one_setting_for_all_a_class_deviates_only_where_that_is_shown(tmp_path):
    plan = ended(tmp_path, "confirm.shared=true")
    assert [c.name for c in candidates(plan, "nv")] == ["0000", "0002", "0001", "df/0002"]
    assert candidates(plan, "nv")[3].key == candidates(plan, "df")[1].key
    kids = {
        "df": {"0000": SAME, "0002": GAIN, "0001": WORSE, "nv/0002": WORSE},
        "nv": {"0000": SAME, "0002": WIDE, "0001": [20.0, 21.0, 22.0], "df/0002": [44.0, 45.0, 46.0]},
    }
    decided(plan, kids, {})
    (df, nv), missing = decisions(plan)
    assert not missing and list(df.ranks.values()) == sorted(df.ranks.values()) and len(df.ranks) == 3
    assert df.settings[df.one].candidate.name == "0002" and nv.settings[nv.one].candidate.name == "df/0002"
    assert df.chosen == df.one
    assert nv.settings[nv.chosen].candidate.name == "0001"  # 24 points better, and surely
    assert "One setting for all classes: df/0002" in sentences(plan, [df, nv], {})[-2]
    assert sentences(plan, [df, nv], {})[-2].endswith("would be rejected: nv.")
    kids["nv"]["0001"] = [10.0, 40.0, 70.0]  # better too, but who knows
    for c in candidates(plan, "nv"):
        for seed in range(3):
            c.training(plan, "nv", seed).metrics.unlink()
    decided(plan, {"nv": kids["nv"]}, {})
    (_, nv), _ = decisions(plan)
    assert nv.settings[nv.own].candidate.name == "0001" and nv.chosen == nv.one


def test_of_a_class_whose_trainings_are_missing_no_gain_is_claimed(tmp_path):
    plan = ended(tmp_path)
    decided(plan, {"df": {"0000": SAME, "0002": GAIN, "0001": WORSE}}, {})
    found, missing = decisions(plan)
    assert [d.label for d in found] == ["df"] and "see the jobs of the stage confirm" in missing["nv"]
    assert "nv is not confirmed, so no gain is claimed: " in " ".join(sentences(plan, found, missing))


def test_equal_settings_are_trained_once(tmp_path):
    words = ("search.space.optim={lr_g: {choice: [1e-3]}, lr_d: {choice: [1e-3]}}", "confirm.shared=true")
    plan = ended(tmp_path, *words)
    assert [c.name for c in candidates(plan, "df")] == ["0000", "0002"]
    seeds = {c.spec(plan, "df", seed).seed for c in candidates(plan, "df") for seed in range(3)}
    assert len(seeds) == 6 and not seeds & {spec.seed for spec, _ in plan.trials("df")}
