"""train.precision=auto: measured once per sweep where it is prepared, and then as if it had been given."""

import pytest
from gan_samples import OPS, open_session, part, spec
from plans import complete, launched, plan_of
from rich.console import Console

from hpc.cli.conclusion import conclude
from hpc.cli.status import status
from hpc.plan.precision import precision_file
from hpc.plan.sweep_plan import PREPARE, Job, reopen
from hpc.settings.compose import compose
from hpc.stages.inputs import Inputs
from hpc.stages.prepare import settle_precision
from skin_gan.config import AUTO
from skin_gan.errors import SkinGanError
from skin_gan.io import read_json, write_json
from skin_gan.training import speed

WORDS = ("cluster=local", "trial.train.precision=auto", "pretrain.kimg=1")


@pytest.fixture
def measured(monkeypatch) -> list[dict[str, float]]:
    """What the next measurements come to, the last first."""
    results = [{"fp32": 50.0, "bf16": 80.0}]
    monkeypatch.setattr(speed, "speeds", lambda *_: results.pop())
    monkeypatch.setattr(Inputs, "split", lambda *_: type("Split", (), {"train": None}))
    return results


def test_trials_have_the_identity_of_what_was_measured_and_it_is_measured_once(tmp_path, measured, capsys):
    plan, given = (
        launched(tmp_path, *WORDS),
        plan_of(tmp_path / "other", *WORDS, "trial.train.precision=bf16"),
    )
    early = plan.trials("df")[0][0]
    assert early.settings.train.precision == AUTO
    write_json(plan.run.jobs / "prepare.json", {"state": "done", "classes": ["df"], "features": ["all"]})
    assert not complete(plan, Job(PREPARE)), "an unknown precision"
    settle_precision(plan)
    assert (
        "train.precision: bf16 by measurement: fp32 50 images/s, bf16 80 images/s on "
        in capsys.readouterr().out
    )
    assert complete(plan, Job(PREPARE))
    for opened in (plan, reopen(plan.run)):
        found = [trial.id for trial, _ in opened.trials("df")]
        assert found == [trial.id for trial, _ in given.trials("df")[:2]] and early.id not in found
        assert opened.pretraining(1).id == given.pretraining(1).id
        assert {trial.settings.train.precision for trial, _ in opened.trials("df")} == {"bf16"}
    settle_precision(plan)  # there is no measurement left to take
    assert status([str(plan.run.path)]) == 0
    assert "bf16 by measurement: fp32 50 images/s" in capsys.readouterr().out
    conclude(Console(width=240), plan)
    assert "train.precision=auto: bf16 by measurement: fp32 50 images/s" in capsys.readouterr().out


def test_a_sweep_with_a_given_precision_measures_nothing(tmp_path, measured):
    plan = launched(tmp_path, "cluster=local")
    settle_precision(plan)
    assert len(measured) == 1 and not precision_file(plan.run).exists()
    assert complete(plan, Job(PREPARE)) is False  # it has not run
    write_json(plan.run.jobs / "prepare.json", {"state": "done", "classes": ["df"], "features": ["all"]})
    assert complete(plan, Job(PREPARE))


def test_a_damaged_measurement_is_one_clear_error(tmp_path, measured):
    plan = launched(tmp_path, *WORDS)
    write_json(precision_file(plan.run), {"precision": "fp8"})
    with pytest.raises(
        SkinGanError, match=r"precision\.json is damaged: expected the precision fp32 or bf16"
    ):
        plan.trials("df")


def test_bf16_has_to_be_worth_its_rounding(monkeypatch):
    assert speed.faster({"fp32": 100.0, "bf16": 109.0}) == "fp32"
    assert speed.faster({"fp32": 100.0, "bf16": 111.0}) == "bf16"
    monkeypatch.setattr(speed, "make_accelerator", lambda *_: (_ for _ in ()).throw(ValueError("no bf16")))
    assert speed.speed(spec(precision="bf16"), part(24, 1), OPS) == 0.0


def test_real_steps_are_timed_in_both(monkeypatch):
    monkeypatch.setattr(speed, "SECONDS", 0.05)
    monkeypatch.setattr(speed, "ROUNDS", 1)
    steps = []
    monkeypatch.setattr(speed, "step", lambda learner: steps.append(learner.accelerator.mixed_precision) or
                        learner.step())  # fmt: skip
    found = speed.speeds(spec("aegan", precision=AUTO), part(24, 1), OPS)
    assert set(found) == {"fp32", "bf16"} and all(value > 0 for value in found.values())
    assert set(steps) == {"no", "bf16"}
    assert "1 thread" in speed.device_name(OPS)


def test_what_is_not_settled_is_neither_trained_nor_drawn(tmp_path):
    with pytest.raises(
        SkinGanError, match="precision=auto is settled by the stage prepare of a sweep: choose"
    ):
        open_session(tmp_path, spec(precision=AUTO))
    with pytest.raises(SkinGanError, match=r"search\.space\.train\.precision: auto is measured once"):
        compose(["sweep=aegan_lr", "search.space.train.precision={choice: [fp32, auto]}"])


def test_the_record_names_the_machine(tmp_path, measured):
    plan = launched(tmp_path, *WORDS)
    settle_precision(plan)
    record = read_json(precision_file(plan.run))
    assert record["images_per_second"] == {"fp32": 50.0, "bf16": 80.0}
    assert {"precision", "device", "host"} <= record.keys()
