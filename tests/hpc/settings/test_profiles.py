"""Cluster profiles: what a wrong value says before anything is submitted, and what right ones become."""

from pathlib import Path

import pytest
from plans import WORDS, plan_of

from hpc.cluster import executor
from hpc.settings.compose import CHOICES, Choice, compose, load, save
from hpc.settings.profiles import ProfileSettings
from skin_gan.errors import SkinGanError


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["profile.slots=3", "profile.gpus_per_node=4"], "expected 1, 2, 4, or a multiple of 4"),
        (["profile.devices_per_trial=4"], "gpus_per_node=1 is too few"),
        (["profile.devices_per_trial=2", "profile.gpus_per_node=4", "profile.slots=4"], "is too few"),
        (["profile.images_per_second=-5"], "at least 0"),
        (["profile.images_per_second=.nan"], "at least 0"),
        (["profile.mem=16XB"], "such as 16G"),
        (["profile.mem=1.5G"], "a whole number"),
        (
            ["profile.minutes=24:00:00"],
            "profile.minutes on the command line: expected a whole number, got '24",
        ),
        (["profile.extra=[a]"], "profile.extra on the command line: expected keys and values"),
        (["profile.setup=module"], "expected a list such as [a, b], got 'module'"),
        (["profile.setup=[1,{a: b}]"], "profile.setup[1] on the command line: expected text, got {'a': 'b'}"),
        (["search.rungs={a: 1}"], "expected a list"),
        (["search.space=[a]"], "expected keys and values"),
        (["classes=[df,{a: b}]"], "classes[1]"),
        (["profile.extra={exclude: [a, b]}"], "profile.extra.exclude on the command line: expected text"),
        (["profile.extra={--hold: true}"], "without dashes before it"),
        (["profile.extra={J: name}"], "the long name"),
        (["profile.extra={array: 0-3}"], "use profile.parallel and profile.max_array"),
        (["profile.extra={dependency: singleton}"], "launch later"),
        (["profile.extra={ntasks-per-node: 2}"], "use profile.devices_per_trial"),
        (["profile.extra={signal: B:USR1@60}"], "use profile.signal_delay"),
    ],
)
def test_a_value_that_would_fail_in_a_job_is_one_clear_error(words, says):
    with pytest.raises(SkinGanError) as e:
        compose([*WORDS, "cluster=one_gpu", *words])
    assert says in str(e.value) and "\n" not in str(e.value)


def test_files_are_read_as_strictly_as_words(tmp_path, monkeypatch):
    monkeypatch.setitem(CHOICES, "cluster", Choice(str(tmp_path), own="clusters", inside="profile"))
    for text, says in {
        "kind: slurm\nminutes: 1:30:00": "mine.yaml: expected a whole number, got '1:30:00'",
        "kind: slurm\nminutes: 60\nminutes: 90": "the key minutes occurs twice",
        "kind: slurm\nextra: [a]": "mine.yaml: expected keys and values",
        "partition: gpu": "profile.partition=gpu is for Slurm, and the profile is of kind local",
        "slots: 2\nminutes: 60": "profile.minutes=60 is for Slurm",
    }.items():
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(SkinGanError) as e:
            compose([*WORDS, "cluster=mine"])
        assert says in str(e.value) and "\n" not in str(e.value)
    (tmp_path / "mine.yaml").write_text("kind: slurm\nsetup: [a]\nextra: {begin: '16:00'}\nminutes: 60")
    assert compose([*WORDS, "cluster=mine"]).profile.extra == {"begin": "16:00"}


def test_a_sweep_is_asked_after_whatever_its_profile_was(tmp_path):
    e = compose([*WORDS, "cluster=one_gpu", 'profile.extra={begin: "16:00", comment: 0:30}'])
    e.profile.mem = "1.5G"  # as an earlier version may have let through
    save(e, tmp_path / "sweep.yaml")
    assert load(tmp_path / "sweep.yaml") == e


def test_each_process_of_a_final_training_has_a_core(tmp_path):
    words = ("profile.gpus_per_node=4", "final.kimg=10", "trial.train.batch=32")
    with pytest.raises(SkinGanError, match="expected at least a core for each"):
        plan_of(tmp_path, *words, "profile.cpus_per_task=1")
    plan = plan_of(tmp_path, *words, "profile.cpus_per_task=4")
    assert executor.options(plan, "final", Path("/code"), [])["cpus_per_task"] == 1


@pytest.mark.parametrize("slots", [1, 2, 4, 8])
def test_slots_that_share_the_gpus_equally_are_taken(slots):
    words = ("profile.gpus_per_node=4", f"profile.slots={slots}")
    assert compose([*WORDS, "cluster=one_gpu", *words]).profile.slots == slots


def test_a_users_option_replaces_the_profiles_own_however_it_is_spelled(tmp_path):
    extra = 'profile.extra={gpus-per-node: "a100:4", cpus-per-task: 3, mem: 5G, exclusive: true, nice: 0}'
    plan = plan_of(tmp_path, extra)
    (script,) = executor.scripts(plan, plan.stages[0], Path("/code")).values()
    for option in ("gpus-per-node=a100:4", "cpus-per-task=3", "mem=5G", "exclusive", "nice=0"):
        name = option.partition("=")[0]
        lines = [line for line in script.splitlines() if line.startswith(f"#SBATCH --{name}")]
        assert lines == [f"#SBATCH --{option}"]
    assert "--cpus-per-task=3 " in next(line for line in script.splitlines() if line.startswith("srun"))


def test_an_option_that_is_false_or_null_is_left_out(tmp_path):
    plan = plan_of(tmp_path, "profile.extra={exclusive: false, foo: null}")
    (script,) = executor.scripts(plan, plan.stages[0], Path("/code")).values()
    assert "exclusive" not in script and "foo" not in script


@pytest.mark.parametrize("mem", ["16G", "16gb", "16000", "0"])
def test_memory_is_shared_in_every_spelling_that_sbatch_takes(tmp_path, mem):
    words = ("backend=array", "search.scheduler=none", "profile.slots=2", f"profile.mem={mem}")
    options = executor.options(plan_of(tmp_path, *words), "search", Path("/code"), [])
    expected = {"16G": "8192M", "16gb": "8192M", "16000": "8000M", "0": "0"}
    assert options["additional_parameters"]["mem"] == expected[mem]


def test_a_local_profile_has_nothing_of_slurms():
    assert compose([*WORDS, "cluster=local", "profile.scratch=/tmp", "profile.slots=2"]).profile.slots == 2
    assert vars(ProfileSettings()) == vars(compose([*WORDS, "cluster=local"]).profile)
