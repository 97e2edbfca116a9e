"""Slurm without Slurm: profiles, scripts, what is submitted when, and what a job died of."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from places import ROOT
from plans import STEP, WORDS, plan_of

from hpc.cli.launch import make_console
from hpc.cli.status import find_runs, job_table
from hpc.cli.steer import chooser
from hpc.cluster import executor, reconcile
from hpc.cluster.reconcile import check_place
from hpc.settings.compose import CHOICES, CLUSTER, compose, load, save
from hpc.settings.profiles import ProfileSettings
from hpc.slurm import client
from hpc.slurm.client import Queued
from hpc.slurm.job_states import JobState, ask, cause_of, ended_state, job_states
from hpc.state import submissions
from hpc.state.provenance import freeze
from hpc.state.records import record, record_rank_error
from hpc.state.submissions import Submission
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import read_json, write_json

PREPARED = {"state": "done", "ended": 1.0, "classes": ["df", "nv", "vasc"]}
# Profiles


@pytest.mark.parametrize("name", CHOICES["cluster"].names())
def test_every_profile_composes_and_says_what_it_is(name):
    assert compose([*WORDS, f"cluster={name}", "final.kimg=1"]).profile.kind in ("local", "slurm")
    assert (ROOT / "slurm" / f"{name}.yaml").read_text().startswith("# ")


def test_the_default_profile_is_the_users(monkeypatch):
    monkeypatch.setenv(CLUSTER, "cpu")
    assert compose([*WORDS]).profile.partition == "cpu"
    assert compose([*WORDS, "cluster=local"]).profile.kind == "local"


def test_a_profile_may_say_where_results_go(monkeypatch):
    monkeypatch.setenv("SOME_DISK", "/shared/me")
    assert compose([*WORDS, "profile.results=$SOME_DISK/gan"]).results == "/shared/me/gan"
    assert compose([*WORDS, "profile.results=/a", "results=/b"]).results == "/b"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("profile.minutes=0", "at least 1"),
        ("profile.signal_delay=99999999", "fewer seconds"),
        ("profile.partitions=gpu", "did you mean profile.partition?"),
        ("results=$NO_SUCH_VARIABLE/x", "is not set"),
        ("profile.nodes=2 cluster=local", "this machine is one node"),
        ("backend=array", "set search.scheduler=none"),
    ],
)
def test_a_mistake_in_a_profile_is_named(word, says):
    with pytest.raises(SkinGanError, match=says.replace("?", r"\?")):
        compose([*WORDS, "cluster=one_gpu", *word.split()])


# Scripts


def test_a_dry_run_shows_every_script_without_slurm(tmp_path):
    words = [*WORDS, "cluster=one_gpu", f"results={tmp_path}", "dry_run=true", "profile.parallel=2"]
    words += ["show=scripts"]
    words += ["profile.setup=['module load cuda']", "profile.extra={exclude: node13}"]
    command = [sys.executable, str(ROOT / "hpc" / "launch.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/nonexistent"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("#!/bin/bash") == 3
    options = "--array=0-2%2 --gpus-per-node=1 --exclude=node13 --partition=gpu --signal=USR2@120 --requeue"
    for text in (*options.split(), "module load cuda", "--dependency='afterany:<prepare>'"):
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_final_training_has_a_task_per_device_of_all_nodes(tmp_path):
    plan = plan_of(tmp_path, "cluster=several_nodes", "final.kimg=1", "trial.train.batch=32")
    (script,) = executor.scripts(plan, plan.stages[-1], Path("/code")).values()
    for option in ("--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=6"):
        assert f"#SBATCH {option}\n" in script


@pytest.mark.parametrize(("stage", "nodes"), [("prepare", 1), ("search", 2)])
def test_a_search_has_a_task_on_each_of_its_nodes_and_other_stages_one_node(tmp_path, stage, nodes):
    plan = plan_of(tmp_path, "cluster=several_nodes")
    (script,) = executor.scripts(
        plan, next(s for s in plan.stages if s.name == stage), Path("/code")
    ).values()
    for option in (f"--nodes={nodes}", "--ntasks-per-node=1", "--cpus-per-task=24"):
        assert f"#SBATCH {option}\n" in script
    job = next(s for s in plan.stages if s.name == stage).jobs[0]
    assert executor.slurm_task(plan, job).nodes == nodes


def test_an_array_in_parts_keeps_to_the_cap_and_a_trial_gets_its_share_of_the_devices(tmp_path):
    words = ("cluster=several_gpus", "backend=array", "search.scheduler=none", "search.trials=50")
    plan = plan_of(tmp_path, *words, "profile.parallel=9", "profile.max_array=40")
    options = executor.options(plan, "search", Path("/code"), [], parts=4)
    assert (options["array_parallelism"], options["gpus_per_node"]) == (2, 2)
    assert (options["ntasks_per_node"], options["cpus_per_task"]) == (2, 6)
    arrays = ["--array=0-39%2"] * 3 + ["--array=0-29%2"]
    scripts = executor.scripts(plan, plan.stages[1], Path("/code"))
    assert [next(w for w in script.split() if "--array" in w) for script in scripts.values()] == arrays


def test_of_more_arrays_than_jobs_may_run_each_waits_for_its_turn(tmp_path):
    words = ("backend=array", "search.scheduler=none", "search.trials=50", "profile.parallel=2")
    plan = plan_of(tmp_path, *words, "profile.max_array=40")
    scripts = executor.scripts(plan, plan.stages[1], Path("/code"))
    assert all("%1\n" in script for script in scripts.values())
    after = [
        line.partition("afterany:")[2]
        for s in scripts.values()
        for line in s.splitlines()
        if "afterany" in line
    ]
    first = "<prepare>"
    waits = [first, first, f"{first}:<search, part 1 of 4>", f"{first}:<search, part 2 of 4>"]
    assert [line.rstrip("'") for line in after] == waits


def test_a_job_that_trains_one_thing_gets_a_slots_share_of_a_node(tmp_path):
    plan = plan_of(tmp_path, "cluster=one_gpu", "profile.gpus_per_node=4", "profile.slots=4")
    expected = {"prepare": (4, 6, "32G"), "search": (4, 6, "32G"), "ablate": (1, 1, "8192M")}
    for stage, (gpus, cpus, mem) in expected.items():
        options = executor.options(plan, stage, Path("/code"), [])
        assert (options["gpus_per_node"], options["cpus_per_task"]) == (gpus, cpus)
        assert options["additional_parameters"]["mem"] == mem
    halves = {"1001": "501M", "3k": "1M", "1T": "524288M", "0": "0", "": ""}
    assert {mem: executor.part_of(mem, 2) for mem in halves} == halves


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("30:00", 1800), ("1-00:00:00", 86400), ("2-12:30:00", 217800), ("UNLIMITED", float("inf"))],
)
def test_limits_are_read_in_slurms_words(limit, seconds):
    assert client.seconds(limit) == seconds


def test_jobs_run_from_a_copy_of_the_code(tmp_path):
    run = RunFolder(tmp_path)
    code = freeze(run)
    task = Path("hpc", "jobs", "task.py")
    assert (code / task).read_bytes() == (ROOT / task).read_bytes()
    assert "torch==" in (code / "packages.txt").read_text()
    assert freeze(run) == code and len([*code.parent.iterdir()]) == 1
    (script,) = executor.scripts(plan_of(tmp_path), plan_of(tmp_path).stages[1], code).values()
    lines = [line for line in script.splitlines() if line.startswith("export ")]
    python = sys.executable
    ask = f"cd {ROOT} && {python} -m hpc.jobs.task; {python} -c 'import hpc; print(hpc.__file__)'"
    done = subprocess.run(["bash", "-c", "\n".join([*lines, ask])], capture_output=True, text=True)
    assert done.stdout.strip() == str(code / "hpc" / "__init__.py")


# What is submitted when


class Fake:
    """A Slurm that takes every job, and of which a test says what it still has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alive: dict[str, Queued] = {}
        self.cancelled: list[str] = []
        self.count = 0
        monkeypatch.setattr(client, "queue", lambda run: self.alive)
        monkeypatch.setattr(client, "control", self.control)
        monkeypatch.setattr(executor, "submit_stage", self.take)

    def control(self, command, ids):
        assert command == "scancel"
        self.cancelled.extend(ids)

    def take(self, plan, stage, jobs, code, after):
        self.count += 1
        many = len(jobs) > 1
        made = [
            Submission(j.name, f"{self.count}_{i}" if many else str(self.count)) for i, j in enumerate(jobs)
        ]
        for s in made:
            submissions.add(plan.run, s)
            self.alive[s.id] = Queued(
                s.id, client.PENDING, "Dependency", "1:00", 0, "", "", str(plan.run.path)
            )
        self.after = [s.job for s in after]
        return made


def submit(plan) -> list[str]:
    jobs = [job for stage in plan.stages for job in stage.jobs]
    return [s.job for s in reconcile.submit(plan, jobs, Path("/code"), *reconcile.read_sweep(plan))[1]]


def test_the_first_launch_submits_all_and_the_second_nothing(tmp_path, monkeypatch):
    fake, plan = Fake(monkeypatch), plan_of(tmp_path)
    assert submit(plan) == ["prepare", "search-df", "search-nv", "search-vasc", "select"]
    assert fake.after == ["prepare", "search-df", "search-nv", "search-vasc"]
    assert submit(plan) == []


def test_what_left_the_queue_unfinished_is_submitted_again_and_select_waits_for_it(tmp_path, monkeypatch):
    fake, plan = Fake(monkeypatch), plan_of(tmp_path)
    submit(plan)
    lost = submissions.latest(plan.run)["search-nv"].id
    del fake.alive[lost], fake.alive[submissions.latest(plan.run)["prepare"].id]
    write_json(plan.run.jobs / "prepare.json", PREPARED)
    select = submissions.latest(plan.run)["select"].id
    assert submit(plan) == ["search-nv", "select"]
    assert fake.cancelled == [select]
    assert set(fake.after) == {"search-df", "search-nv", "search-vasc"}


def test_a_search_that_runs_towards_less_is_followed_by_another(tmp_path, monkeypatch):
    fake, plan = Fake(monkeypatch), plan_of(tmp_path)
    submit(plan)
    write_json(plan.run.jobs / "prepare.json", PREPARED)
    s = submissions.latest(plan.run)["search-df"]
    fake.alive[s.id] = Queued(s.id, client.RUNNING, "", "1:00", 0, "node1", "", "")
    write_json(plan.run.jobs / "search-df.json", {"state": "running", "target": [2, 0.064, 0.192]})
    assert submit(plan) == []
    assert "search-df" in submit(plan_of(tmp_path, "search.trials=4"))
    states = job_states(plan.run, ask(plan.run, plan.experiment.profile), {})
    both = [state for state in states if state.job == "search-df"]
    assert [state.state for state in both] == ["running", "pending"]  # both are steered


def test_what_a_retry_of_one_class_takes_from_the_queue_it_gives_back(tmp_path, monkeypatch):
    fake, plan = Fake(monkeypatch), plan_of(tmp_path, "final.kimg=1")
    submit(plan)
    write_json(plan.run.jobs / "prepare.json", PREPARED)
    known = submissions.latest(plan.run)
    del fake.alive[known["search-df"].id], fake.alive[known["prepare"].id]
    of_df = [job for stage in plan.stages for job in stage.jobs if job.label in ("df", "")]
    again = [s.job for s in reconcile.submit(plan, of_df, Path("/code"), *reconcile.read_sweep(plan))[1]]
    assert again == ["search-df", "select", "final-df", "final-nv", "final-vasc"]
    cancelled = {s.job for s in known.values() if s.id in fake.cancelled}
    assert cancelled == {"select", "final-df", "final-nv", "final-vasc"}


def test_a_job_that_slurm_is_requeueing_is_left_alone(tmp_path, monkeypatch):
    fake, plan = Fake(monkeypatch), plan_of(tmp_path)
    submit(plan)
    write_json(plan.run.jobs / "prepare.json", PREPARED)
    job = fake.alive[submissions.latest(plan.run)["search-df"].id]
    fake.alive[job.id] = replace(job, state=client.COMPLETING)
    monkeypatch.setattr(time, "sleep", lambda seconds: fake.alive.update({job.id: job}))
    assert submit(plan) == [] and not fake.cancelled


def test_a_job_that_slurm_does_not_get_rid_of_is_followed_by_another(tmp_path, monkeypatch):
    fake, plan = Fake(monkeypatch), plan_of(tmp_path)
    monkeypatch.setattr(reconcile, "ENDING", 0.0)
    submit(plan)
    write_json(plan.run.jobs / "prepare.json", PREPARED)
    known = submissions.latest(plan.run)
    fake.alive.clear()
    s = known["search-df"]
    fake.alive[s.id] = Queued(s.id, client.COMPLETING, "", "0:00", 0, "node1", "", "")
    after = []
    monkeypatch.setattr(
        executor, "submit_stage", lambda *a, **k: after.append(k["after"]) or fake.take(*a, **k)
    )
    assert submit(plan) == ["search-df", "search-nv", "search-vasc", "select"]
    assert s in after[1]


def test_a_job_of_the_queue_is_this_sweeps_only_if_it_says_so(tmp_path, monkeypatch):
    run = tmp_path / "aegan_lr" / "demo-1"
    run.mkdir(parents=True)
    (tmp_path / "link").symlink_to(run)
    rows = [  # id, name, comment
        ("1", "aegan_lr-search", run), ("2", "aegan_lr-search", "/results/aegan_lr/demo-2"),
        ("3", "another", "(null)"), ("4", "mine", "a word of the profile's"), ("5", "aegan_lr-select", ""),
        ("6", "aegan_lr-search", "/nfs/other-host/aegan_lr/demo-1"), ("7", "search-aegan_lr", ""),
    ]  # fmt: skip
    text = "".join(f"{i}|RUNNING|None|UNLIMITED|N/A|n1|{name}|{comment}|\n" for i, name, comment in rows)
    monkeypatch.setattr(client, "client", lambda *words: "a greeting\n\n" + text)
    assert list(client.queue(run)) == ["1", "4", "5", "6", "7"]
    assert "1" in client.queue(tmp_path / "link")


def test_the_users_slurm_conf_comes_first_and_a_profiles_is_its_own_only(monkeypatch, tmp_path):
    monkeypatch.delenv(client.CONF, raising=False)
    monkeypatch.setattr(client, "_conf", "")
    for conf in (str(tmp_path), ""):
        client.use(ProfileSettings(kind="slurm", conf=conf))
        assert os.environ.get(client.CONF, "") == conf
    monkeypatch.setenv(client.CONF, "/mine")
    client.use(ProfileSettings(kind="slurm", conf=str(tmp_path)))
    assert os.environ[client.CONF] == "/mine"


def test_cancel_reaches_jobs_of_earlier_settings(tmp_path):
    plan = plan_of(tmp_path, "final.kimg=1")
    everything = chooser(plan, None, None, shared=True)
    assert all(map(everything, ["prepare", "search-gone", "ablate-head-best-fold-0"]))
    df = chooser(plan, ["df"], None, shared=False)
    names = ["search-df", "search-df-0001", "generate-df-fold-0", "final-df", "folds-df"]
    assert all(map(df, names)) and not any(map(df, ["search-nv", "select", "ablate-head-df-fold-0"]))
    assert [*filter(chooser(plan, ["df"], "search", shared=False), names)] == names[:2]


def test_a_sweep_with_jobs_in_a_queue_is_not_launched_elsewhere(tmp_path, monkeypatch):
    fake, plan = Fake(monkeypatch), plan_of(tmp_path)
    submit(plan)
    save(plan.experiment, plan.run.settings)
    here = plan_of(tmp_path, "cluster=local")
    assert here.run == plan.run
    with pytest.raises(SkinGanError, match="5 jobs of this sweep are in the queue of cluster=one_gpu"):
        check_place(here, load(plan.run.settings))
    fake.alive.clear()
    check_place(here, load(plan.run.settings))


def test_the_same_cluster_under_another_name_is_the_same_and_stays_the_chosen_one(tmp_path, monkeypatch):
    fake, plan = Fake(monkeypatch), plan_of(tmp_path)
    submit(plan)
    save(plan.experiment, plan.run.settings)
    plan.experiment.profile.conf = str(tmp_path)
    monkeypatch.delenv(client.CONF, raising=False)
    monkeypatch.setattr(client, "_conf", "")
    client.use(plan.experiment.profile)
    check_place(plan, load(plan.run.settings))  # all jobs are in the queue that is asked now
    assert fake.alive and os.environ[client.CONF] == str(tmp_path)


def test_a_refusal_of_sbatch_is_one_clear_error(tmp_path, monkeypatch):
    bin = tmp_path / "bin"
    bin.mkdir()
    for name, line in (
        ("sbatch", 'echo "sbatch: error: Batch job submission failed: Invalid account" >&2; exit 1'),
        ("srun", "true"),
        ("scontrol", "true"),
    ):
        (bin / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setattr(client, "max_array", lambda: None)
    plan = plan_of(tmp_path)
    with pytest.raises(
        SkinGanError, match=r"refused the jobs of stage prepare: .*Invalid account; correct"
    ) as e:
        executor.submit_stage(plan, plan.stages[0], list(plan.stages[0].jobs), Path("/code"), [])
    assert "\n" not in str(e.value) and not submissions.every(plan.run)


# What a job died of


@pytest.mark.parametrize(
    ("ended", "log", "cause"),
    [
        ("TIMEOUT", "", "time limit"),
        ("NODE_FAIL", "", "lost node"),
        ("OUT_OF_MEMORY", "", "out of memory"),
        ("", "error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***", "time limit"),
        ("", "error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***", "cancelled"),
        ("", "error: *** STEP 5.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO JOB REQUEUE ***", ""),
        (
            "",
            "CANCELLED AT 2026 DUE TO PREEMPTION ***\nslurmstepd: error: Detected 1 oom-kill event(s)",
            "out of memory",
        ),
        ("FAILED", "ValueError", ""),
        ("FAILED", "srun: error: node2: task 3: Killed", "a killed process"),
        ("FAILED", "RuntimeError: [pair.cc:561] Connection closed by peer [10.0.0.2]", "a killed process"),
        ("", "CANCELLED AT 2026 DUE TO TIME LIMIT ***\nsrun: error: n1: task 0: Killed", "time limit"),
        ("", f"srun: error: n2: task 1: Killed\n{STEP}", "a killed process"),
        ("FAILED", STEP, ""),
        ("FAILED", "*** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO PREEMPTION ***\nValueError", ""),
        ("FAILED", f"slurmstepd: error: Detected 1 oom-kill event(s)\n{STEP}", "out of memory"),
        ("FAILED", "UncompletedJobError: Job not requeued because: timed-out too many times.", "time limit"),
        ("RUNNING", "*** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***", "cancelled"),
        ("BOOT_FAIL", "", "boot fail"),
        ("DEADLINE", "DUE TO PREEMPTION", "deadline"),
    ],
)
def test_a_cause_is_named_with_and_without_accounts(ended, log, cause):
    assert cause_of(ended, log) == cause


def test_a_job_that_vanished_is_lost_only_if_the_queue_was_asked(tmp_path):
    s, record = Submission("search-df", "7"), {"state": "running", "slurm": "7"}
    assert ended_state(RunFolder(tmp_path), s, record, "", asked=True).state == "lost"
    assert ended_state(RunFolder(tmp_path), s, record, "", asked=False).state == "running"
    done = {"state": "done", "slurm": "7"}
    assert ended_state(RunFolder(tmp_path), s, done, "", asked=True).state == "done"


def test_a_job_cancelled_before_it_started_is_not_taken_for_the_one_before_it(tmp_path):
    before = {"state": "done", "slurm": "6"}
    state = ended_state(RunFolder(tmp_path), Submission("search-df", "7"), before, "CANCELLED", asked=True)
    assert state.state == "cancelled"


def test_what_ended_another_process_of_a_job_comes_before_what_the_first_saw_of_it(tmp_path, monkeypatch):
    run, s = RunFolder(tmp_path), Submission("final-df", "7")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for rank, error in ((3, RuntimeError("Connection closed by peer")), (1, ValueError("a bad batch"))):
        with pytest.raises(type(error)), record_rank_error(run, "final-df", rank):
            raise error
    with pytest.raises(RuntimeError), record(run, "final-df"):
        raise RuntimeError("[pair.cc:561] Connection reset by peer")
    entry = read_json(run.jobs / "final-df.json")
    assert ended_state(run, s, entry, "FAILED", asked=True).why == "process 1: ValueError: a bad batch"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # it was of the run before
    with pytest.raises(RuntimeError), record(run, "final-df"):
        raise RuntimeError("Connection reset by peer")
    entry = read_json(run.jobs / "final-df.json")
    why = ended_state(run, s, entry, "FAILED", asked=True).why
    assert why == "a killed process: RuntimeError: Connection reset by peer"


@pytest.mark.parametrize("ended", ["FAILED", ""])
@pytest.mark.parametrize(
    "said", [STEP, "*** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO PREEMPTION ***"]
)
def test_an_error_of_a_jobs_own_is_its_cause_whatever_slurm_ended(tmp_path, ended, said):
    run, s = RunFolder(tmp_path), Submission("final-df", "7")
    s.log(run).parent.mkdir(parents=True)
    s.log(run).write_text(f"{said}\nRuntimeError: device-side assert\n{STEP}\n")
    entry = {"slurm": "7", "state": "failed", "error": "RuntimeError: device-side assert"}
    state = ended_state(run, s, entry, ended, asked=True)
    assert (state.state, state.why) == ("failed", "RuntimeError: device-side assert")


def test_without_accounts_a_job_cancelled_in_the_middle_is_known_by_its_log(tmp_path):
    run, s = RunFolder(tmp_path), Submission("search-df", "7")
    s.log(run).parent.mkdir(parents=True)
    s.log(run).write_text(
        f"{STEP}\nslurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***\n"
    )
    record = {"slurm": "7", "state": "running", "error": ""}
    assert ended_state(run, s, record, "", asked=True).state == "cancelled"
    lost = {**record, "state": "failed", "error": "RuntimeError: Connection closed by peer"}
    assert ended_state(run, s, lost, "", asked=True).state == "cancelled"


def test_a_job_that_ends_while_status_looks_is_done(tmp_path, monkeypatch):
    plan = plan_of(tmp_path)
    s = Submission("search-df", "7")
    submissions.add(plan.run, s)
    monkeypatch.setattr(client, "ended", lambda ids: {})
    record = {"slurm": "7", "state": "running"}
    write_json(plan.run.jobs / "search-df.json", record)

    def queue(*_: object) -> dict[str, Queued]:
        write_json(plan.run.jobs / "search-df.json", {"slurm": "7", "state": "done"})
        return {}

    monkeypatch.setattr(client, "queue", queue)
    seen, read = reconcile.read_sweep(plan)
    (state,) = job_states(plan.run, seen, read.records)
    assert state.state == "done"
    assert ended_state(plan.run, s, record, "COMPLETED", asked=True).state == "done"
    failed = {"slurm": "7", "state": "failed", "error": "ValueError"}
    assert ended_state(plan.run, s, failed, "COMPLETED", asked=True).why == "ValueError"


def test_an_error_with_brackets_is_shown_as_it_is(capsys):
    error = "RuntimeError: [/w/gloo/pair.cc:561] Connection closed by peer"
    make_console().print(job_table([JobState(Submission("final-df", "7"), "failed", error)]))
    assert error in capsys.readouterr().out


def test_no_slurm_here_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(os.environ, "PATH", "/nonexistent")
    with pytest.raises(SkinGanError, match="there is no squeue here"):
        client.queue(Path("/"))


def test_published_tables_are_not_taken_for_runs(tmp_path):
    for name in ("published/aegan_lr-ham10000-32", "aegan_lr/demo-1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "sweep.yaml").touch()
    (tmp_path / "aegan_lr" / "demo-1" / "provenance.json").touch()
    assert [run.path.name for run in find_runs(tmp_path)] == ["demo-1"]
