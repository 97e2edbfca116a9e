"""What ended a job is recorded in words: its own, or the last of its log, or of the process of its search."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from plans import STEP, plan_of

from hpc.cluster import executor
from hpc.jobs import task
from hpc.jobs.task import DRIVER_RESTARTS, Task, check_prepared
from hpc.plan.sweep_plan import PREPARE, SEARCH
from hpc.search.supervisor import NO_RAY, STOPPED, Driver
from hpc.slurm import client
from hpc.slurm.job_states import ended_state
from hpc.state import submissions
from hpc.state.logs import last_words
from hpc.state.records import record
from hpc.state.submissions import Submission
from skin_gan.errors import SkinGanError, cause
from skin_gan.folders import RunFolder
from skin_gan.io import read_json, write_json

ENDED = """\
srun: error: node1: task 0: Exited with exit code 1
srun: launch/slurm: _step_signal: Terminating StepId=4.0
"""
GRES = "srun: error: Step requested GRES but job doesn't have GRES"
NO_STEP = "srun: error: Unable to create step for job 10: Invalid generic resource (gres) specification"
NO_PYTHON = "slurmstepd-node1: error: execve(): /opt/no/python: No such file or directory"
# The logs of jobs that a real Slurm started, and the words that say why they ended.
LOGS = {
    "options that exclude one another": (
        "srun: fatal: SLURM_MEM_PER_CPU, SLURM_MEM_PER_GPU, and SLURM_MEM_PER_NODE are mutually exclusive.\n",
        "srun: fatal: SLURM_MEM_PER_CPU, SLURM_MEM_PER_GPU, and SLURM_MEM_PER_NODE are mutually exclusive.",
    ),
    "no such device": (
        f"{GRES}\n{NO_STEP}\n",
        f"{GRES}; {NO_STEP}",
    ),
    "a module and a Python that are not there": (
        "/spool/job00004/slurm_script: line 19: module: command not found\n"
        f"{NO_PYTHON}\n{ENDED}",
        f"job script, line 19: module: command not found; {NO_PYTHON}",
    ),
    "a Python without Submitit": (
        "/usr/bin/python3: Error while finding module specification for 'submitit.core._submit' "
        f"(ModuleNotFoundError: No module named 'submitit')\n{ENDED}",
        "/usr/bin/python3: Error while finding module specification for 'submitit.core._submit' "
        "(ModuleNotFoundError: No module named 'submitit')",
    ),
    "an exception": (
        "submitit ERROR (2026-01-01 00:00:00,000) - Submitted job triggered an exception\n"
        'Traceback (most recent call last):\n  File "/x/submission.py", line 74, in main\n    failed()\n'
        f"RuntimeError: Could not figure out which environment the job is runnning in.\n{STEP}\n{ENDED}",
        "RuntimeError: Could not figure out which environment the job is runnning in.",
    ),
    "one exception after another": (
        "Traceback (most recent call last):\n  a()\nKeyError: 1\n\nDuring handling of the above exception, "
        "another exception occurred:\n\nTraceback (most recent call last):\n  b()\n"
        "skin_gan.errors.SkinGanError: the data at /x changed\n",
        "the data at /x changed",
    ),
    "a fault in a library": (
        f"srun: error: node1: task 0: Segmentation fault (core dumped)\n{ENDED}",
        "srun: error: node1: task 0: Segmentation fault (core dumped)",
    ),
    "words that nobody has foreseen": (
        f"bwrap: setting up uid map\nquota of licences is used up\n{ENDED}",
        "bwrap: setting up uid map; quota of licences is used up",
    ),
    "nothing": ("", ""),
    "only what accompanies every job": (f"submitit INFO (2026) - Starting\n{STEP}\n{ENDED}", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", LOGS)
def test_a_job_that_died_before_it_kept_a_record_is_explained_by_its_log(tmp_path, what):
    log, words = LOGS[what]
    run, s = RunFolder(tmp_path), Submission("search-df", "7")
    s.log(run).parent.mkdir(parents=True)
    s.log(run).write_text(log)
    earlier = {"slurm": "6", "state": "failed", "error": "of an earlier job"}
    for ended in ("FAILED", ""):  # with and without accounts
        state = ended_state(run, s, earlier, ended, asked=True)
        assert state.why == (words or "it left the queue without a word")
        assert state.state == ("failed" if words else "lost")


def test_a_log_that_could_not_be_written_is_named(tmp_path):
    s = Submission("search-df", "7")
    state = ended_state(RunFolder(tmp_path), s, {}, "FAILED", asked=True)
    assert str(s.log(RunFolder(tmp_path))) in state.why and state.state == "lost"


def test_of_a_job_lost_in_the_middle_ordinary_lines_are_no_cause(tmp_path):
    run, s, running = RunFolder(tmp_path), Submission("search-df", "7"), {"slurm": "7", "state": "running"}
    s.log(run).parent.mkdir(parents=True)
    s.log(run).write_text("0.5 kimg, 30 images/s\n/x.py:3: UserWarning: an error may follow\n  failed()\n")
    assert ended_state(run, s, running, "", asked=True).why == "it left the queue without a word"
    s.log(run).write_text("0.5 kimg\nsrun: error: Node failure on node1\n")
    assert ended_state(run, s, running, "", asked=True).why == "srun: error: Node failure on node1"


def test_a_long_message_is_cut():
    words = last_words("ValueError: " + "x" * 1000)
    assert words.startswith("ValueError: xxx") and words.endswith("...") and len(words) == 300


def test_a_search_after_a_prepare_that_died_at_once_says_why(tmp_path):
    run = RunFolder(tmp_path)
    s = Submission(PREPARE, "3")
    submissions.add(run, s)
    s.log(run).parent.mkdir(parents=True)
    s.log(run).write_text("bash: conda: command not found\n")
    with pytest.raises(SkinGanError, match="prepare is missing, not done: bash: conda: command not found"):
        check_prepared(run)
    with pytest.raises(SkinGanError), record(run, PREPARE):
        raise SkinGanError("n1 shows torch 0 GPUs")
    with pytest.raises(SkinGanError) as e:
        check_prepared(run)
    write_json(run.jobs / "prepare.json", {**read_json(run.jobs / "prepare.json"), "slurm": "3"})
    with pytest.raises(SkinGanError) as e:
        check_prepared(run)
    assert str(e.value) == "prepare is failed, not done: n1 shows torch 0 GPUs"


def test_all_that_sbatch_says_is_the_reason_and_a_missing_srun_is_named(tmp_path, monkeypatch):
    plan = plan_of(tmp_path)
    said = "sbatch: error: You must name an account\\nsbatch: error: Batch job submission failed: Unspecified"
    for name, line in (("sbatch", f"printf '{said}' >&2; exit 1"), ("srun", "true")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(client, "max_array", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stage = plan.stages[0]
    why = "You must name an account; Batch job submission failed: Unspecified; correct"
    with pytest.raises(SkinGanError, match=why):
        executor.submit_stage(plan, stage, list(stage.jobs), Path("/code"), [])
    (tmp_path / "srun").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SkinGanError, match="there is no srun here"):
        executor.submit_stage(plan, stage, list(stage.jobs), Path("/code"), [])


# Jobs on this machine


class Ended:
    """A local job that is over."""

    def __init__(self, log: Path) -> None:
        self.job_id, self.paths = "41", SimpleNamespace(stderr=log)


def test_a_local_job_is_judged_by_its_own_record_and_else_by_its_log(tmp_path):
    plan, log = plan_of(tmp_path), tmp_path / "log"
    job, path = plan.stages[0].jobs[0], plan.run.jobs / "prepare.json"
    write_json(path, {"state": "done", "attempt": "41-0"})
    assert executor.failure(plan, job, Ended(log)) == ""
    log.write_text("Traceback (most recent call last):\n  import omegaconf\nImportError: no OmegaConf\n")
    write_json(path, {"state": "done", "attempt": "40-0"})  # of the launch before
    assert executor.failure(plan, job, Ended(log)) == f"ImportError: no OmegaConf (log: {log})"
    log.unlink()
    assert executor.failure(plan, job, Ended(log)).startswith("it was killed")
    write_json(path, {"state": "failed", "attempt": "41-0", "error": "a bad batch"})
    assert executor.failure(plan, job, Ended(log)).startswith("a bad batch")


# The process of a search


def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Driver:
    """A driver whose process runs this shell script; $FOLDER is its temporary folder."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nfor FOLDER; do :; done\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return Driver([], "secret", dict(os.environ))


def test_the_last_words_of_a_searchs_process_are_kept_and_passed_on(tmp_path, monkeypatch, capfd):
    said = "echo one line >&2; echo 'ray.exceptions.RaySystemError: /tmp is gone' >&2"
    d = driver(tmp_path, monkeypatch, f"rm -rf $FOLDER; {said}; exit 1")
    assert d.wait() == 1 and not d.error
    assert d.reason == "ray.exceptions.RaySystemError: /tmp is gone"
    assert capfd.readouterr().err.splitlines()[0] == "one line"
    d = driver(tmp_path, monkeypatch, f"printf '2 trials failed' > $FOLDER/error; {said}; exit 1")
    assert d.wait() == 1 and d.error == d.reason == "2 trials failed"


@pytest.mark.parametrize(
    ("codes", "error", "starts", "says"),
    [
        ([1, 0], "", 2, None),  # died without a word of its own, as where its folder was swept
        ([NO_RAY, -9, 0], "", 3, None),
        ([1] * 9, "", 1 + DRIVER_RESTARTS, "the search's process exited with 1: no room"),
        ([1], "2 trials failed: 0001: a bad batch", 1, "2 trials failed: 0001: a bad batch"),
        ([STOPPED], "", 1, f"the search's process exited with {STOPPED}: no room"),
    ],
)
def test_a_search_that_died_is_started_again_and_one_that_failed_is_not(
    tmp_path, monkeypatch, codes, error, starts, says
):
    plan, made = plan_of(tmp_path), []

    class Fake:
        stopped, reason = False, "no room"

        def __init__(self, *_: object) -> None:
            made.append(self)
            self.error = error

        def wait(self) -> int:
            return codes[len(made) - 1]

    monkeypatch.setattr(task, "Driver", Fake)
    monkeypatch.setattr(task, "check_prepared", lambda run: None)
    monkeypatch.setattr(task, "stage_data", lambda plan: {})
    search = Task(str(plan.run.path), SEARCH, "df", 1)
    if says is None:
        search.search(plan, "search-df", None)
    else:
        with pytest.raises(SkinGanError) as e, record(plan.run, "search-df"):
            search.search(plan, "search-df", None)
        assert str(e.value) == read_json(plan.run.jobs / "search-df.json")["error"] == says
    assert len(made) == starts


# What is kept of an error


def test_an_error_is_kept_in_its_words_with_the_systems_reason():
    assert cause(SkinGanError("n1 has no GPU")) == "n1 has no GPU"
    assert cause(ValueError("a bad batch")) == "ValueError: a bad batch"
    for number in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(RuntimeError) as e:
            try:
                raise OSError(number, os.strerror(number), "/results/last.pt")
            except OSError:
                raise RuntimeError("unexpected pos 332928")  # noqa: B904 - as torch's writer does
        assert cause(e.value) == (
            f"RuntimeError: unexpected pos 332928 ({os.strerror(number)}: /results/last.pt)"
        )
    with pytest.raises(KeyError) as e:
        try:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/x")
        except OSError:
            raise KeyError("df")  # noqa: B904
    assert cause(e.value) == "KeyError: 'df'"
