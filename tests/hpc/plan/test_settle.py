"""What a launch settles: `auto` where weights are here and where not, and that later launches keep it."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from plans import plan_of

from hpc.cli.launch import launch
from hpc.jobs.task import Task
from hpc.plan.settle import check_weights, needed
from hpc.plan.sweep_plan import Plan, reopen
from hpc.settings.compose import compose, load, save
from hpc.stages.inputs import Inputs
from hpc.stages.prepare import preflight
from hpc.state.provenance import exports
from skin_gan import pretrained
from skin_gan.config import check
from skin_gan.errors import SkinGanError
from skin_gan.io import read_json, write_json

AUTO = ("classes=[df]", "trial.model.discriminator=auto", "trial.model.features=mobilenetv2_torchvision")
PROJECTED = (*AUTO[:1], "trial.model.discriminator=projected", *AUTO[2:])


class Machine(NamedTuple):
    """A machine that has, or has not, weights of small content."""

    folder: Path

    def gets(self, name: str = "mobilenetv2_torchvision", content: str = "weights") -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_text(content)

    def loses(self, name: str = "mobilenetv2_torchvision") -> None:
        (self.folder / name).unlink()
        pretrained.weights_file.cache_clear()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv(pretrained.FOLDER, str(tmp_path / "weights of mine"))
    for name in pretrained.WEIGHTS:
        small = replace(pretrained.WEIGHTS[name], sha256=sha256(b"weights").hexdigest(), package="")
        monkeypatch.setitem(pretrained.WEIGHTS, name, small)
    pretrained.weights_file.cache_clear()
    yield Machine(tmp_path / "weights of mine")
    pretrained.weights_file.cache_clear()


def begun(plan: Plan) -> Plan:
    """The plan, after a launch has written its folder."""
    plan.run.jobs.mkdir(parents=True, exist_ok=True)
    save(plan.experiment, plan.run.settings)
    write_json(plan.run.provenance, {"data": {"fingerprint": plan.data}})
    return plan


def trials(plan: Plan) -> list[str]:
    return [spec.id for spec, _ in plan.trials("df")]


def test_without_weights_auto_is_the_family_s_own_and_stays_so_when_they_come(machine, tmp_path):
    plan = begun(plan_of(tmp_path, *AUTO))
    assert plan.experiment.trial.model.discriminator == "own"
    assert "model.discriminator=auto is own, since the weights mobilenetv2_torchvision are not on" in str(
        plan.notes
    )
    assert "`python -m skin_gan.pretrained fetch mobilenetv2_torchvision` downloads" in str(plan.notes)
    own = plan_of(tmp_path, "classes=[df]", "trial.model.discriminator=own", AUTO[2])
    assert trials(plan) == trials(own) and plan.run != own.run
    machine.gets()
    later = plan_of(tmp_path, *AUTO)
    assert later.run == plan.run and trials(later) == trials(plan) == trials(reopen(plan.run))
    assert "is own, with which this sweep began" in later.notes[0]
    begun(plan_of(tmp_path, *PROJECTED))  # asked for by its name, it is a sweep beside it
    assert plan_of(tmp_path, *AUTO).run == plan.run


def test_with_weights_auto_is_projected_and_stays_so_when_they_go(machine, tmp_path):
    machine.gets()
    plan, asked = plan_of(tmp_path, *AUTO), plan_of(tmp_path, *PROJECTED)
    assert plan.notes[0] == "model.discriminator=auto is projected, on mobilenetv2_torchvision"
    assert (plan.run, trials(plan)) == (asked.run, trials(asked))
    check_weights(plan.experiment)
    begun(plan)
    assert load(plan.run.settings).trial.model.discriminator == "projected"
    machine.loses()
    later = plan_of(tmp_path, *AUTO)
    assert later.run == plan.run and trials(later) == trials(plan)
    with pytest.raises(SkinGanError, match="weights mobilenetv2_torchvision are not on this machine"):
        check_weights(later.experiment)


def test_a_launch_refuses_missing_and_cut_weights_and_writes_nothing(machine, tmp_path, capsys):
    words = ["sweep=aegan_lr", "data=demo", "budget=micro", f"results={tmp_path / 'r'}"]
    searched = "search.space.model={discriminator: {choice: [own, both]}, features: {choice: [random, %s]}}"
    for given in (PROJECTED, ("classes=[df]", searched % "mobilenetv2_torchvision")):
        for dry in ("true", "false"):
            with pytest.raises(SkinGanError, match=r"not on this machine .* fetch mobilenetv2_torchvision"):
                launch([*words, *given, f"dry_run={dry}"])
    machine.gets(content="weigh")
    with pytest.raises(SkinGanError, match=r"does not hold the weights .*\(5 bytes: cut, or another"):
        launch([*words, *AUTO, "dry_run=true"])
    machine.gets()
    capsys.readouterr()
    assert launch([*words, *AUTO, "dry_run=true"]) == 0
    assert "model.discriminator=auto is projected, on mobilenetv2_torchvision" in capsys.readouterr().out
    assert not (tmp_path / "r").exists()


def test_weights_are_those_that_some_trial_may_need(machine, tmp_path):
    def of(*words):
        return needed(plan_of(tmp_path, "classes=[df]", "evaluate.second=none", *words).experiment)

    space = "search.space.model={discriminator: {choice: [%s]}, features: {choice: [%s]}}"
    both = "mobilenetv2, mobilenetv2_torchvision"
    machine.gets("mobilenetv2")
    assert of() == of(PROJECTED[1], "trial.model.features=random") == []
    assert of(space % ("own", both)) == []
    assert of(space % ("own, projected", both)) == both.split(", ")
    assert of(space % ("own", both), "preset=projected") == ["mobilenetv2"]  # of the baseline
    assert of(space % ("own", both), "preset=projected", "search.baseline=false") == []


def test_auto_is_settled_for_all_trials_alike(machine, tmp_path):
    with pytest.raises(SkinGanError, match="discriminator: auto is settled once for a sweep"):
        compose(["sweep=aegan_lr", "search.space.model.discriminator={choice: [own, auto]}"])
    with pytest.raises(SkinGanError, match=r"=auto is own, since .*; but loss\.perceptual=1 needs frozen"):
        plan_of(tmp_path, *AUTO, "trial.loss.perceptual=1")
    assert check(compose(["sweep=aegan_lr", *AUTO, "trial.loss.perceptual=1"]).trial)


def test_the_second_network_that_measures_is_settled_once_too(machine, tmp_path):
    plan = begun(plan_of(tmp_path, "classes=[df]"))
    assert "evaluate.second=auto is none, since the weights alexnet are not on this machine" in plan.notes[0]
    assert Inputs(plan).second is None
    machine.gets("alexnet")
    assert plan_of(tmp_path, "classes=[df]").experiment.evaluate.second == "none"  # rows keep their columns
    fresh = plan_of(tmp_path / "other", "classes=[df]")
    assert fresh.experiment.evaluate.second == "alexnet" and needed(fresh.experiment) == ["alexnet"]
    assert trials(fresh) == trials(plan)
    machine.loses("alexnet")
    with pytest.raises(SkinGanError, match="weights alexnet are not on this machine"):
        Inputs(fresh).second  # noqa: B018


@pytest.mark.parametrize("stage", ["pretrain", "search", "final", "folds"])
def test_a_node_without_the_weights_fails_before_it_trains(machine, tmp_path, stage, monkeypatch):
    """With the one command that brings them; whether prepare ran on it or not."""
    machine.gets()
    machine.gets("alexnet")
    plan = begun(plan_of(tmp_path, "cluster=local", *PROJECTED))
    preflight(plan)
    machine.loses()
    fetch = "python -m skin_gan.pretrained fetch mobilenetv2_torchvision"
    says = f"on the login node run `export SKIN_GAN_WEIGHTS={machine.folder} .*{fetch}"
    with pytest.raises(SkinGanError, match=says):
        preflight(plan)
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        with pytest.raises(SkinGanError, match=says):
            Task(str(plan.run.path), stage, "df", 1, index=0 if stage == "search" else None)()
    assert not any(folder.spec.exists() for _, folder in plan.trials("df"))
    assert any("lacks the weights" in str(read_json(path)) for path in plan.run.jobs.glob(f"{stage}*.json"))


def test_jobs_look_for_weights_where_the_launch_did(machine, monkeypatch):
    assert f"export SKIN_GAN_WEIGHTS='{machine.folder}'" in exports(Path("/code"))
    monkeypatch.delenv(pretrained.FOLDER)
    assert "SKIN_GAN_WEIGHTS" not in str(exports(Path("/code")))
