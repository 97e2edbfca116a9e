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
from hpc.nodes import Meeting
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
from skin_gan.run import RunFolder, content_hash, lock, locked, read_json, write_json

# How often a search that was killed, by hand or for its memory, is started again within its job.
DRIVER_RESTARTS = 2
PROGRESS_SECONDS = 2.0  # how often progress (`done` of `total`) is written at most
NO_RAY = 75  # exit code of a search that could not start Ray
# Environment variables by which processes know that they train together: see accelerate.utils.environment.
OF_A_GROUP = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "PMI_", "MPI_LOCAL", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_",
)  # fmt: skip
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
    nodes: int = 1  # of a search with Ray, which trains `slots` trials at a time on each

    def __call__(self) -> None:
        run, name = RunFolder(Path(self.run)), Job(self.stage, self.label, index=self.index).name
        if int(os.environ.get("RANK", "0")) > 0:
            # One of several processes of a job: the first of them keeps the record.
            return self.work_along(reopen(run), name)
        # A launcher that was killed can leave its job behind: wait for it, then do what it left undone.
        with lock(run.jobs / f"{name}.lock", wait=float("inf")) as held, record(run, name) as tell:
            assert held is not None
            plan = reopen(run)
            tell(target=target(plan, self.stage))
            if self.stage == SEARCH and self.index is not None:
                run_trial(plan, self.label, self.index)
            elif self.stage == SEARCH:
                self.search(plan, name, held)
            else:
                WORK[self.stage](plan, self.label, tell)

    def work_along(self, plan: Plan, name: str) -> None:
        """What the other processes of a job do: they train together with its first, or lend it their node."""
        if self.stage == FINAL:
            train_final(plan, self.label)
        elif self.index is not None:
            run_trial(plan, self.label, self.index)
        else:
            self.lend_node(plan, name)

    def search(self, plan: Plan, name: str, held: IO[bytes]) -> None:
        """Run the class's trials in a process of their own; killed, or without Ray, it is started again."""
        check_prepared(plan.run)
        variables = {**os.environ, **stage_data(plan)}
        meeting = Meeting.of(plan.run, name, attempt())
        meeting.forget_earlier()
        arguments = [self.run, self.label, str(self.slots), str(self.nodes), str(meeting.path)]
        for start in range(1 + DRIVER_RESTARTS):
            if self.nodes > 1:
                await_trials(plan, self.label)
            self.driver = Driver(arguments, secrets.token_hex(32), variables, held)
            try:
                code = self.driver.wait()
            finally:
                meeting.forget()
            if self.driver.stopped:
                held.close()  # the same job may run elsewhere by now
                await_end()
            if code >= 0 and code != NO_RAY:
                break
            print(f"the search ended with {code} (start {start + 1})", file=sys.stderr, flush=True)
        if code:
            raise RuntimeError(self.driver.error or f"its process ended with {code}")

    def lend_node(self, plan: Plan, name: str) -> None:
        """Make this node one of the Ray of the job's first, until the search there ends.

        A Ray that is killed is started again; RuntimeError if it does not stay.
        """
        variables = {**os.environ, **stage_data(plan)}
        meeting = Meeting.of(plan.run, name, attempt())
        lost = 0
        while not ended(plan.run, name):
            if (head := meeting.head()) is None:
                time.sleep(1.0)
                continue
            self.driver = Driver(["join", self.run, head.address, str(self.slots)], head.token, variables)
            code = self.driver.wait(functools.partial(meeting.names, head), every=1.0)
            if self.driver.stopped:
                return
            if meeting.names(head):
                lost += 1
                print(f"this node's Ray ended with {code} (start {lost})", file=sys.stderr, flush=True)
            if lost > DRIVER_RESTARTS:
                raise RuntimeError(f"Ray does not stay on {socket.gethostname()}: it ended with {code}")

    def interrupt(self) -> None:
        """End what runs on this node of the search, if there is one; called by a signal handler."""
        if driver := getattr(self, "driver", None):
            # `ray start` would take all of the time that Slurm gives a job to end; it has nothing to save.
            driver.stop(grace=5.0 if driver.held else 1.0)


class Driver:
    """A process that runs `hpc.search`: Ray replaces signal handlers, so it gets a process of its own.

    It is in a session of its own and ends with this process, however this one ends. The job's lock, where
    this process has it, is passed on, to be held for as long as that one lives even if this one is killed.
    """

    def __init__(
        self, arguments: list[str], token: str, variables: dict[str, str], held: IO[bytes] | None = None
    ) -> None:
        # Ray's sockets are in it: closed to others; its path is short, since sockets' end at 107 bytes.
        self.temporary = tempfile.mkdtemp(prefix="sg", dir="/tmp")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hpc.search", *arguments, self.temporary],
            start_new_session=True,
            pass_fds=[held.fileno()] if held else [],
            env=ray_environment(self.temporary, token, variables),
        )
        self.held = held
        self.stopped = False
        self.error = ""

    def wait(self, wanted: Callable[[], bool] = lambda: True, every: float = 0.1) -> int:
        """The process's exit code; it is ended where it is no longer wanted."""
        try:
            # Polling, not wait(): a blocking wait in a signal handler would deadlock with one here.
            while self.process.poll() is None and wanted():
                time.sleep(every)
        finally:
            self.end()
        return self.process.returncode

    def stop(self, grace: float) -> None:
        self.stopped = True
        self.end(grace)

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


def await_trials(plan: Plan, label: str) -> None:
    """Wait until none is trained: another node may need a moment to notice that the Ray before has ended."""
    while any(locked(folder.lock) for _, folder in plan.trials(label)):
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
        "slurm": slurm_id(), "attempt": attempt(), "node": os.environ.get("SLURMD_NODENAME"),
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


def attempt() -> str:
    """This run of this job, such as 12_3-0: Slurm may run a job again."""
    return f"{slurm_id()}-{os.environ.get('SLURM_RESTART_COUNT', 0)}"


def ended(run: RunFolder, name: str) -> bool:
    """Whether the first process of this run of the job has ended, as its record says."""
    said = read_json(run.jobs / f"{name}.json") or {}
    return said.get("attempt") == attempt() and said["state"] != "running"


def restarts(path: Path) -> int:
    before = read_json(path)
    return before["restarts"] + 1 if before else 0


def ray_environment(temporary: str, token: str, variables: dict[str, str]) -> dict[str, str]:
    """The environment of a Ray that belongs to this job alone. Ray reads it when it is imported."""
    secret = Path(temporary, "token")
    secret.touch(mode=0o600)
    secret.write_text(token)
    # Each trial has one process, however many the job has.
    alone = {name: value for name, value in variables.items() if not name.startswith(OF_A_GROUP)}
    environment = {**alone, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(secret)}
    environment.pop("RAY_ADDRESS", None)  # or it would join whatever cluster that names
    environment.update(RAY_USAGE_STATS_ENABLED="0", RAY_CHDIR_TO_TRIAL_DIR="0")
    environment.update(TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")  # the session writes its own
    environment.update(TUNE_DISABLE_SIGINT_HANDLER="1")  # it would take trials that were stopped for failed
    environment.update(RAY_memory_monitor_refresh_ms="0")  # it watches the machine; Slurm watches the job
    environment.update(RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0")  # Slurm waits for no node to be emptied
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
