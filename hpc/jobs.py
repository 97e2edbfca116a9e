"""What runs inside an allocation. A job holds the path of its sweep and finds everything else on disk, so it
can be killed at any instant and run again.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from hpc.ablation import arm_tasks, combined_tasks, sample_tasks
from hpc.config import Experiment
from hpc.final import train_final
from hpc.plan import (
    ABLATE,
    AFTER_SELECTION,
    COMBINE,
    FINAL,
    FOLDS,
    GENERATE,
    PREPARE,
    REPORT,
    SEARCH,
    SELECT,
    Job,
    Plan,
    reopen,
    unfinished,
)
from hpc.preflight import preflight
from hpc.space import leaves
from hpc.staging import stage_data
from hpc.trials import Runner
from skin_gan.errors import SkinGanError
from skin_gan.run import RunFolder, content_hash, lock, read_json, write_json

# How often a search that was killed, by hand or for its memory, is started again within its job.
DRIVER_RESTARTS = 2
PROGRESS_SECONDS = 2.0  # how often progress (`done` of `total`) is written at most
NO_RAY = 75  # exit code of a search that could not start Ray
# Metrics of trials and of classifier runs in TensorBoard's table, which shows the first five.
METRICS = (
    "metrics/kid", "metrics/kid_floor", "metrics/coverage", "test/balanced_accuracy", "val/balanced_accuracy",
    "metrics/copies", "metrics/precision", "metrics/recall", "metrics/fd", "metrics/c2st", "metrics/collapse",
    "test/macro_auc", "test/ece",
)  # fmt: skip


@dataclass
class Task:
    """The callable that is pickled for a job."""

    run: str
    stage: str
    label: str
    slots: int  # trials at a time
    index: int | None = None  # the only trial of this job, where each has one of its own

    def __call__(self) -> None:
        run, name = RunFolder(Path(self.run)), Job(self.stage, self.label, index=self.index).name
        if int(os.environ.get("RANK", "0")) > 0:
            # One of several processes that train together: the first of them keeps the record.
            return self.train_along(reopen(run))
        # A launcher that was killed can leave its job behind: wait for it, then do what it left undone.
        with lock(run.jobs / f"{name}.lock", wait=float("inf")) as held, record(run, name) as tell:
            assert held is not None
            plan = reopen(run)
            tell(target=target(plan, self.stage))
            if self.stage == SEARCH and self.index is not None:
                run_trial(plan, self.label, self.index)
            elif self.stage == SEARCH:
                self.search(plan, held)
            else:
                WORK[self.stage](plan, self.label, tell)

    def train_along(self, plan: Plan) -> None:
        """What every process of a training does."""
        if self.index is None:
            train_final(plan, self.label)
        else:
            run_trial(plan, self.label, self.index)

    def search(self, plan: Plan, held: IO[bytes]) -> None:
        """Run the class's trials in a process of their own; killed, or without Ray, it is started again."""
        check_prepared(plan.run)
        variables = {**os.environ, **stage_data(plan)}
        for start in range(1 + DRIVER_RESTARTS):
            self.driver = Driver([self.run, self.label, str(self.slots)], held.fileno(), variables)
            code = self.driver.wait()
            if self.driver.stopped:
                held.close()  # the same job may run elsewhere by now
                await_end()
            if code >= 0 and code != NO_RAY:
                break
            print(f"the search ended with {code} (start {start + 1})", file=sys.stderr, flush=True)
        if code:
            raise RuntimeError(self.driver.error or f"its process ended with {code}")

    def interrupt(self) -> None:
        """End the search, if there is one, in the middle; called by a signal handler."""
        if driver := getattr(self, "driver", None):
            driver.stop()


class Driver:
    """A process that runs `hpc.search`: Ray replaces signal handlers, so it gets a process of its own.

    It is in a session of its own and ends with this process, however this one ends. The job's lock is passed
    on, to be held for as long as that process lives even if this one is killed.
    """

    def __init__(self, arguments: list[str], held: int, variables: dict[str, str]) -> None:
        # Ray's sockets are in it: closed to others; its path is short, since sockets' end at 107 bytes.
        self.temporary = tempfile.mkdtemp(prefix="sg", dir="/tmp")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hpc.search", *arguments, self.temporary],
            start_new_session=True,
            pass_fds=[held],
            env=ray_environment(self.temporary, variables),
        )
        self.stopped = False
        self.error = ""

    def wait(self) -> int:
        """The process's exit code."""
        try:
            # Polling, not wait(): a blocking wait in a signal handler would deadlock with one here.
            while self.process.poll() is None:
                time.sleep(0.1)
        finally:
            self.end()
        return self.process.returncode

    def stop(self) -> None:
        self.stopped = True
        self.end(grace=5.0)

    def end(self, grace: float = 10.0) -> None:
        """End the process and all it started; afterwards nothing of it is left."""
        end_group(self.process, grace)
        if (message := Path(self.temporary, "error")).exists():
            self.error = message.read_text()
        shutil.rmtree(self.temporary, ignore_errors=True)


def await_end() -> NoReturn:
    """Sleep until Slurm, which sent SIGTERM, ends or requeues this job: ending by itself would fail it."""
    while True:
        time.sleep(1.0)


def target(plan: Plan, stage: str) -> Any:
    """What a job works towards, which a launch may change: kimg, in a search trials per class too, and in the
    ablation all of its settings."""
    e = plan.experiment
    if stage == FINAL:
        return [e.final.kimg]
    if stage in AFTER_SELECTION:
        return content_hash([asdict(e.ablate), asdict(e.select), e.allow_rejected])
    return [e.search.trials, *e.search.rungs]


def run_trial(plan: Plan, label: str, index: int) -> None:
    """One trial in this very process. Raises RuntimeError if it fails."""
    check_prepared(plan.run)
    if not unfinished(plan.trials(label)[index][1].state(), plan.experiment.search.rungs[-1]):
        return  # done since this job was submitted
    os.environ.update(stage_data(plan))
    runner = Runner(plan, label)
    if runner.run(index)["failed"]:
        raise RuntimeError(runner.folder.state()["reason"])


def check_prepared(run: RunFolder) -> None:
    """Stop now if the stage before did not end well: its message says more than what would fail here."""
    before = read_json(run.jobs / f"{PREPARE}.json") or {"state": "missing"}
    if before["state"] != "done":
        raise SkinGanError(
            f"{PREPARE} is {before['state']}, not done: {before.get('error') or 'see its log'}"
        )


@contextlib.contextmanager
def record(run: RunFolder, name: str) -> Iterator[Callable[..., None]]:
    """Keep the job's state in jobs/NAME.json for status: running, done, or failed with the error.

    Yields a function that adds to it.
    """
    path = run.jobs / f"{name}.json"
    entry: dict[str, Any] = {
        "started": time.time(), "host": socket.gethostname(), "pid": os.getpid(), "restarts": restarts(path),
        "slurm": slurm_id(), "node": os.environ.get("SLURMD_NODENAME"),
    }  # fmt: skip

    written = 0.0

    def tell(**more: Any) -> None:
        nonlocal written
        entry.update(more)
        if "done" not in more or time.monotonic() - written >= PROGRESS_SECONDS:
            written = time.monotonic()
            write_json(path, entry)

    tell(state="running", error="")
    try:
        yield tell
    except BaseException as e:
        stopped = isinstance(e, KeyboardInterrupt | SystemExit)
        tell(state="stopped" if stopped else "failed", error=f"{type(e).__name__}: {e}", ended=time.time())
        raise
    tell(state="done", ended=time.time())


def slurm_id() -> str:
    """This job's id as squeue shows it: 12, or 12_3 for an element of an array; empty on this machine."""
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")


def restarts(path: Path) -> int:
    before = read_json(path)
    return before["restarts"] + 1 if before else 0


def ray_environment(temporary: str, variables: dict[str, str]) -> dict[str, str]:
    """The environment of a Ray that belongs to this job alone. Ray reads it when it is imported."""
    token = Path(temporary, "token")
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {**variables, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment.pop("RAY_ADDRESS", None)  # or it would join whatever cluster that names
    environment.update(RAY_USAGE_STATS_ENABLED="0", RAY_CHDIR_TO_TRIAL_DIR="0")
    environment.update(TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")  # the session writes its own
    environment.update(TUNE_DISABLE_SIGINT_HANDLER="1")  # it would take trials that were stopped for failed
    environment.update(RAY_memory_monitor_refresh_ms="0")  # it watches the machine; Slurm watches the job
    return environment


def end_group(child: subprocess.Popen[bytes], grace: float) -> None:
    """SIGINT, so that Ray ends its processes; SIGKILL for what is left after `grace` seconds."""
    for number, seconds in ((signal.SIGINT, grace), (signal.SIGKILL, 5.0)):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, number)
        deadline = time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def prepare(plan: Plan, label: str, tell: Callable[..., None]) -> None:
    """Check the machine, name the board's columns, and compute the features of the real images once.

    On one thread: on cores that others use too, a second one waits for the first more than it helps.
    """
    preflight(plan)
    import torch

    from hpc.inputs import Inputs
    from skin_gan.board import name_columns

    torch.set_num_threads(1)
    name_columns(plan.run.path, *columns(plan.experiment))
    Inputs(plan).warm(lambda done, total: tell(done=done, total=total))
    tell(classes=plan.experiment.classes)


def columns(e: Experiment) -> tuple[dict[str, list[Any]], list[str]]:
    """Of TensorBoard's table: the searched settings and what each is drawn from, and the metrics' tags.

    Where classifiers are trained, also what tells their runs apart, and their metrics.
    """
    searched = {".".join(path): next(iter(d.values())) for path, d in leaves(e.search.space)}
    settings: dict[str, list[Any]] = {"label": e.classes, **searched}
    if not e.ablate.classifiers:
        return settings, [tag for tag in METRICS if tag.startswith("metrics/")]
    return settings | {name: [] for name in ("classifier", "arm", "split", "seed")}, list(METRICS)


def select(plan: Plan, label: str, tell: Callable[..., None]) -> None:
    """Write the leaderboard and export the best generator of each class."""
    from hpc.leaderboard import write_leaderboard
    from hpc.selection import export_best

    rows = write_leaderboard(plan)
    if not any(row["kid"] is not None for row in rows):
        raise SkinGanError(
            f"no trial in {plan.run.path} was ever evaluated: {plan.run.jobs} holds the jobs' messages"
        )
    export_best(plan, rows)


def ablate(plan: Plan, label: str, tell: Callable[..., None], stage: str) -> None:
    """One job of the stages from fold generators to the last classifier; `label` says which."""
    import torch

    from hpc.ablation.generators import Generators
    from hpc.ablation.runs import Arms
    from hpc.ablation.samplesets import SampleSets
    from hpc.inputs import Inputs

    torch.set_num_threads(plan.experiment.operations.threads)
    inputs, a = Inputs(plan), plan.experiment.ablate
    if stage == FOLDS:
        Generators(plan, inputs).retrain(label, tell)
    elif stage == GENERATE:
        made = next(t for t in sample_tasks(a, plan.experiment.classes) if t.label == label)
        SampleSets(plan, inputs).make(made, tell)
    else:
        task = next(t for t in (*arm_tasks(a), *combined_tasks(a)) if t.label == label)
        work = Arms(plan, inputs)
        (work.combine if stage == COMBINE else work.train)(task, tell)


def report(plan: Plan, label: str, tell: Callable[..., None]) -> None:
    """Write the tables and the page from what has been done, whole or not."""
    from hpc.report.make import make_report

    make_report(plan)


WORK: dict[str, Callable[[Plan, str, Callable[..., None]], None]] = {
    PREPARE: prepare,
    SELECT: select,
    FINAL: lambda plan, label, tell: train_final(plan, label),
    **{stage: functools.partial(ablate, stage=stage) for stage in (FOLDS, GENERATE, ABLATE, COMBINE)},
    REPORT: report,
}
