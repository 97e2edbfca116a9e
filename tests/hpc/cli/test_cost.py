"""What a sweep is estimated to cost, what its limits refuse, and how a dry run says so."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
from launches import command, command_lines, wait_until
from plans import launched, plan_of

from hpc.cli import cost
from hpc.cli.cost import Estimate, check_limits, checkpoint_size, estimate
from hpc.cli.launch import launch
from hpc.plan.ablation import classifier_settings
from hpc.settings.compose import compose, load
from hpc.stages.calibrate import Speeds, calibrate
from hpc.state.snapshot import of_plan
from skin_gan.data.resolve import describe
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED

SPEEDS = Speeds(100.0, 2.0, 50.0, 10.0, 5e6, {"cnn": 4.0, "head": 100.0}, "made up")
HEAD = "ablate.classifiers.head={arms: [real, best], seeds: 3, steps: 500}"
NONE = "search.scheduler=none"


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(cost, "speeds", lambda *_: SPEEDS)


def cost_of(plan, before=None) -> Estimate:
    found = estimate(plan, describe("demo", plan.run.path), of_plan(plan), before, timed=False)
    assert found is not None
    return found


def seconds(found: Estimate, stage: str) -> float:
    return 3600 * found.stages[stage].device_hours


def test_a_search_costs_its_training_its_evaluations_and_its_start(known, tmp_path):
    words = ("classes=[df,nv]", "search.trials=9", "search.rungs=[1,3,9]")
    whole = cost_of(plan_of(tmp_path, *words, NONE))
    assert seconds(whole, "search") == pytest.approx(2 * (9 * 9000 / 100 + 27 * 2 + 10))
    # A third of the trials reach each next rung: 9 x 1, 3 x 2 and 1 x 6 kimg, and as many evaluations
    halved = cost_of(plan_of(tmp_path, *words))
    assert seconds(halved, "search") == pytest.approx(2 * (21000 / 100 + 13 * 2 + 10))
    assert 3600 * whole.trial.device_hours == pytest.approx(9000 / 100 + 3 * 2 + 10)
    assert halved.stages["search"].files > 2 * 9 * 7 and halved.stages["search"].bytes > 2 * 9 * 1e7


def test_what_is_done_is_not_paid_again(known, tmp_path):
    plan = launched(tmp_path, NONE, "search.rungs=[4.0]")
    first, second = (folder for _, folder in plan.trials("df"))
    fresh = plan_of(tmp_path, NONE, "search.rungs=[4.0]", "classes=[df]", "search.trials=2", "seed=5")
    before = seconds(cost_of(fresh), "search")
    first.update(state=COMPLETED, kimg=4.0)
    assert seconds(cost_of(plan), "search") == pytest.approx((before - 10) / 2 + 10)
    second.update(state="running", kimg=3.0)
    assert seconds(cost_of(plan), "search") == pytest.approx(10 + (1000 / 100 + 2 / 4))
    second.update(state=COMPLETED, kimg=4.0)
    assert cost_of(plan).stages["search"].jobs == 0


def test_every_stage_is_paid_for(known, tmp_path):
    words = ("classes=[df,nv,vasc]", "pretrain.kimg=2", "final.kimg=5", "ablate.folds=[0,1]", HEAD,
             "profile.gpus_per_node=0", "profile.cpus_per_task=4", "search.rungs=[4.0]")  # fmt: skip
    plan = plan_of(tmp_path, *words)
    found = cost_of(plan)
    assert found.stages.keys() == {stage.name for stage in plan.stages}
    assert all(c.device_hours > 0 and c.files > 0 and c.bytes > 0 for c in found.stages.values())
    assert seconds(found, "pretrain") == pytest.approx(2 * (2000 / 100 + 10))  # one for each fold
    assert seconds(found, "folds") == pytest.approx(3 * (4000 / 100 + 2 + 10))
    assert seconds(found, "combine") == pytest.approx(2 * (3 * 500 / 100 + 10))
    images = found.stages["generate"].bytes / (3 * 32 * 32)
    assert images > describe("demo", tmp_path).counts["nv"] / 2  # to which the other classes are filled up


def test_jobs_side_by_side_take_less_wall_time(known, tmp_path):
    words = ("classes=[df,nv,vasc]", NONE, "search.rungs=[36.0]")
    alone, together = (cost_of(plan_of(tmp_path, *words, f"profile.parallel={n}")) for n in (1, 3))
    assert alone.stages["search"].wall_hours == pytest.approx(3 * together.stages["search"].wall_hours)
    assert alone.total.device_hours == together.total.device_hours


def test_speeds_are_timed_here_or_those_of_earlier_sweeps_or_assumed(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "timed_here", lambda e: replace(SPEEDS, source="timed"))
    here, there = (plan_of(tmp_path, f"cluster={c}", "seed=3") for c in ("local", "one_gpu"))
    s = of_plan(here)
    assert cost.speeds(here, s, None, timed=True).source == "timed"
    assert cost.speeds(here, s, None, timed=False) is cost.speeds(there, s, None, timed=True) is None
    assuming = plan_of(tmp_path, "profile.images_per_second=700", "seed=3")
    assert cost.speeds(assuming, s, None, timed=True).images == 700
    other = launched(tmp_path)  # of seed 0, on one_gpu
    spent = {"seconds": 30.0, "trained_seconds": 24.0, "evaluations": 3}
    other.trials("df")[0][1].update(images_per_second=123.0, **spent)
    for plan in (there, assuming):
        found = cost.speeds(plan, s, None, timed=True)
        assert (found.images, found.evaluation) == (123.0, 2.0) and "aegan_lr" in found.source
    assert cost.speeds(here, s, None, timed=False) is None  # it ran elsewhere
    mine = launched(tmp_path, "seed=3")
    mine.trials("df")[0][1].update(images_per_second=50.0)
    assert cost.speeds(mine, of_plan(mine), load(mine.run.settings), timed=True).images == 50.0
    model = plan_of(tmp_path, "trial.model.base=64")
    assert cost.speeds(model, of_plan(model), None, timed=True) is None


@pytest.mark.slow
def test_this_machine_is_timed_by_the_real_work(tmp_path):
    import io

    import torch

    from hpc.stages.calibrate import LABEL, made_up
    from skin_gan.config import TrialSpec
    from skin_gan.data.store import class_split
    from skin_gan.training.devices import make_accelerator
    from skin_gan.training.learner import Learner

    e = compose(["sweep=aegan_lr", "data=demo", "budget=micro", HEAD])
    e.ablate.classifiers = {"head": e.ablate.classifiers["head"]}
    heads = {"head": classifier_settings("head", e.ablate.classifiers["head"], 32)}
    found = calibrate(e, heads, 1.0, time.time())
    assert min(found.images, found.evaluation, found.features, found.start, found.updates["head"]) > 0
    store = made_up(tmp_path / "store", 32)
    spec = TrialSpec(LABEL, 0, 0, 0, store.fingerprint, e.trial)
    learner = Learner(spec, class_split(store, LABEL, 32, 0).train, make_accelerator("fp32", e.operations))
    began, steps = time.perf_counter(), 20
    for _ in range(steps):
        learner.step()
    rate = steps * learner.images_per_step / (time.perf_counter() - began)
    assert rate / 5 < found.images < rate * 5  # the machine may be busy
    out = io.BytesIO()
    torch.save(learner.state_dict(), out)
    assert found.checkpoint == pytest.approx(out.tell(), rel=0.2)
    assert checkpoint_size(e.trial.model) == pytest.approx(found.checkpoint, rel=0.6)


@pytest.mark.slow
def test_an_impatient_interrupt_ends_the_timing_of_a_machine(tmp_path):
    words = command(tmp_path, "dry_run=true")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_until(lambda: any("spawn_main" in word for line in together(process.pid) for word in line))
        for _ in range(2):  # Ctrl-C reaches all processes of a terminal
            os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "stopped; the same command resumes from here\n"
    wait_until(lambda: not together(process.pid), 30)


def together(group: int) -> list[list[str]]:
    """The command lines of the processes of a group."""
    found = []
    for pid, words in command_lines():
        with suppress(OSError):
            if os.getpgid(pid) == group:
                found.append(words)
    return found


# Limits

BIG = SimpleNamespace(device_hours=2.0, bytes=5e9)
ONE = SimpleNamespace(device_hours=0.5, bytes=1e9)


@pytest.mark.parametrize(
    ("words", "used", "says"),
    [
        (["limit.device_hours=0.4"], 0.0, "too small for one trial, which takes about 0.5 device-hours"),
        (["limit.device_hours=1.9"], 0.0, "estimated at 2 device-hours"),
        (["limit.device_hours=2.4"], 0.5, "2 device-hours beside the 0.5 used"),
        (["limit.disk=0.9"], 0.0, "limit.disk=0.9 is too small for one trial"),
        (["limit.disk=4"], 0.0, "estimated at 5 GB"),
        (["limit.device_hours=2.1", "limit.disk=5.1"], 0.0, None),
        ([], 9.0, None),
    ],
)
def test_a_sweep_beyond_its_limits_is_refused(words, used, says):
    e, found = compose(["sweep=aegan_lr", *words]), SimpleNamespace(total=BIG, trial=ONE)
    if says is None:
        assert check_limits(e, found, used) == []
        return
    with pytest.raises(SkinGanError, match=says):
        check_limits(e, found, used)


def test_without_a_known_speed_limits_are_held_while_the_sweep_runs():
    (warning,) = check_limits(compose(["sweep=aegan_lr", "limit.disk=1"]), None, 0.0)
    assert warning.startswith("warning: no speed is known")


def test_a_limit_is_refused_before_anything_is_written_and_changes_no_identity(known, tmp_path):
    words = ["sweep=aegan_lr", "data=demo", "budget=micro", "cluster=local", f"results={tmp_path}"]
    for more in ([], ["dry_run=true"]):
        with pytest.raises(SkinGanError, match=r"limit\.device_hours=0\.001 is too small for one trial"):
            launch([*words, "limit.device_hours=0.001", *more])
    assert list(tmp_path.iterdir()) == []
    assert plan_of(tmp_path, "limit.disk=7").run == plan_of(tmp_path).run


# What is printed


def test_a_summary_comes_first_and_is_short(known, tmp_path, capsys):
    words = ["sweep=projected", "data=demo", "budget=full", "cluster=one_gpu", f"results={tmp_path}",
             "final.kimg=20", "seed=1", "seed=2", "dry_run=true"]  # fmt: skip
    assert launch(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("projected, seed 2, fold 0: DCGAN's generator") and len(said) <= 25
    assert all(len(line) <= 80 or str(tmp_path) in line for line in said)
    table = {line.split()[0]: line.split() for line in said if line.startswith("  ")}
    heavy = ["search", "confirm", "folds", "ablate"]
    assert {*heavy, "others", "in"} <= table.keys() and "#!/bin/bash" not in "".join(said)
    text = " ".join(" ".join(said).split())
    parts = ("7 classes (akiec, bcc, bkl, df, mel, nv, vasc) x 32 trials", "speed: made up",
             "seed=1 is ignored", "warning: not checked against the cluster", "partition gpu")  # fmt: skip
    assert all(part in text for part in parts)
    assert launch([*words, "show=jobs,scripts,settings"]) == 0
    more = capsys.readouterr().out
    assert more.splitlines()[: len(said)] == said
    assert "search-df" in more and more.count("#!/bin/bash") >= 10 and "lr_g:" in more
    with pytest.raises(SkinGanError, match="expected each of scripts, jobs or settings"):
        launch([*words, "show=all"])
