"""Runs jobs on this machine or submits them to Slurm. The only module that imports Submitit."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment
from submitit.slurm.slurm import (
    _make_sbatch_string,  # private, but nothing public writes a script without Slurm
)

from hpc.jobs.task import Task
from hpc.plan.sweep_plan import (
    FINAL,
    PREPARE,
    SEARCH,
    Job,
    Plan,
    Stage,
    nodes_of,
    processes,
    rounds,
    slots,
    spares_gpu,
)
from hpc.search.rendezvous import PEER
from hpc.settings.compose import Experiment
from hpc.settings.profiles import MEMORY, ProfileSettings, extra_options
from hpc.slurm import client
from hpc.state import submissions
from hpc.state.completion import complete
from hpc.state.environment import DEVICES, clean_environment, replace_variables, without_rank_variables
from hpc.state.limits import closed
from hpc.state.logs import last_words, tail
from hpc.state.provenance import exports, job_environment
from hpc.state.records import error_of
from hpc.state.snapshot import Snapshot, of_jobs
from hpc.state.submissions import Submission
from skin_gan.errors import SkinGanError
from skin_gan.installation import called
from skin_gan.io import locked, read_json

A_YEAR = 365 * 24 * 60  # minutes: Submitit demands a time limit of local jobs, which have none
GPUS = "SKIN_GAN_GPUS"  # environment variable of a local job: the GPUs that its launch may use
OF_GPUS = ("gres", "gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket", "gpu_bind", "gpu_freq")
MEGABYTES = {"K": 2**-10, "M": 1, "G": 2**10, "T": 2**20}  # per unit of sbatch


def run_local(plan: Plan, wanted: list[Job], code: Path, watch: Callable[[], None], s: Snapshot) -> list[str]:
    """Run the wanted jobs on this machine from the frozen `code`, as many at a time as it has slots.

    Calls `watch` several times a second. Returns a line for each failed job; later stages still run on the
    results there are. Ctrl-C, or any exception from `watch`, stops the jobs; files on disk stay usable.
    """
    failures, chosen, ran = [], set(wanted), False
    os.environ.update(job_environment(code, os.environ))
    for stage in plan.stages:
        jobs = [job for job in stage.jobs if job in chosen]
        if ran:  # earlier stages have changed the folder since `s` was read
            s = of_jobs(plan, jobs)
        jobs = [job for job in jobs if not complete(plan, job, s)]
        if jobs and closed(plan, stage.name):
            continue  # each would only stop itself
        ran = ran or bool(jobs)
        # A final training uses all of this machine's GPUs.
        alone = stage.name == FINAL and plan.experiment.profile.gpus_per_node
        for some in rounds(plan.experiment, jobs):
            failures += run_jobs(plan, some, 1 if alone else slots(plan.experiment), watch)
    return failures


def run_jobs(plan: Plan, waiting: list[Job], total: int, watch: Callable[[], None]) -> list[str]:
    """Run the jobs of one stage: one slot each, or more where there are fewer jobs than slots."""
    at_once = min(total, len(waiting))
    running: dict[Job, submitit.Job[None]] = {}
    failures = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running[job] = submit_local(plan, job, total // at_once)
            watch()
            time.sleep(0.2)
            for job in [j for j in running if running[j].done()]:
                if why := failure(plan, job, running.pop(job)):
                    failures.append(f"{job.name}: {why}")
    finally:
        stop(plan, running)
    return failures


def failure(plan: Plan, job: Job, ran: submitit.Job[None]) -> str:
    """Why an ended local job failed, and where its log is; "" if it succeeded."""
    record = read_json(plan.run.jobs / f"{job.name}.json") or {}
    if record.get("attempt") != f"{ran.job_id}-0":
        record = {}  # it belongs to an earlier run: this one died before it could write its own
    if record.get("state") == "done" or record.get("limit"):
        return ""
    log = ran.paths.stderr
    why = error_of(plan.run, job.name, record) or last_words(tail(log), sure=bool(record)) or "it was killed"
    return f"{why} (log: {log})"


def submit_local(plan: Plan, job: Job, share: int) -> submitit.Job[None]:
    """Start a job on this machine with `share` slots and the GPUs that this process may use."""
    executor = submitit.LocalExecutor(folder=plan.run.jobs / job.name)
    e = plan.experiment
    executor.update_parameters(
        timeout_min=A_YEAR,
        gpus_per_node=e.profile.gpus_per_node,
        tasks_per_node=processes(e, job.stage),
    )
    log = plan.run.jobs / job.name / "controller.log"
    with clean_environment(**visible_gpus(e.profile.gpus_per_node)), standard_error(log):
        return executor.submit(RankedTask(str(plan.run.path), job.stage, job.label, share, job.index))


def visible_gpus(count: int) -> dict[str, str]:
    """The variable that gives a job the first `count` GPUs that this process may use.

    Submitit would number them from the machine's first GPU, which others may be using.
    """
    mine = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return {GPUS: ",".join(mine.split(",")[:count])} if mine and count else {}


@contextmanager
def standard_error(log: Path) -> Iterator[None]:
    """Redirect standard error of child processes that are started in the block to `log`.

    Only Submitit's controller of a local job writes there: the job has a log of its own.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def stop(plan: Plan, running: dict[Job, submitit.Job[None]], seconds: float = 40.0) -> None:
    """Interrupt the jobs and wait, at most `seconds`, until their processes have released the jobs' locks."""
    for job in running.values():
        job.cancel()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(locked(plan.run.jobs / f"{job.name}.lock") for job in running):
        time.sleep(0.1)


def submit_stage(
    plan: Plan, stage: Stage, jobs: list[Job], code: Path, after: list[Submission]
) -> list[Submission]:
    """Submit jobs as arrays and record each once Slurm has accepted it. SkinGanError if Slurm refuses one.

    `after`: submissions that must end first.
    """
    p, made = plan.experiment.profile, []
    if shutil.which("srun") is None:  # Submitit takes srun as the sign of a Slurm
        raise client.Unreachable("there is no srun here: run this where Slurm is installed")
    ids = sorted({s.base for s in after})
    size = min(p.max_array, client.max_array() or p.max_array) if jobs else 1
    submitted: list[str] = []
    for array in arrays_of(plan.experiment, jobs, size):
        executor = submitit.SlurmExecutor(
            submissions.logs(plan.run, stage.name), max_num_timeout=p.requeues, python=p.python or None
        )
        waits_for = [*ids, *(submitted[number] for number in array.after)]
        gpu = not spares_gpu(plan.experiment, array.jobs[0])
        executor.update_parameters(**options(plan, stage.name, code, waits_for, array.beside, gpu))
        try:
            with clean_environment(without=DEVICES), executor.batch():
                results = [executor.submit(slurm_task(plan, job)) for job in array.jobs]
        except (FailedJobError, FailedSubmissionError) as e:
            errors = re.findall(r"sbatch: (?:error|fatal): (.+)", str(e)) or [last_words(str(e)) or str(e)]
            reason = "; ".join(dict.fromkeys(errors))
            raise SkinGanError(
                f"sbatch refused the jobs of stage {stage.name}: {reason}; correct the profile and launch "
                f"again (queued jobs stay; `{called('steer')} cancel {plan.run.path}` cancels them)"
            ) from e
        for job, result in zip(array.jobs, results, strict=True):
            made.append(Submission(job.name, result.job_id))
            submissions.add(plan.run, made[-1])
        submitted.append(made[-1].base)
    return made


class Array(NamedTuple):
    """One of the arrays in which a stage's jobs are submitted."""

    jobs: Sequence[Job]
    after: list[int]  # positions of the stage's arrays that must end first
    beside: int  # the number of arrays, with this one, that may run at the same time


def arrays_of(e: Experiment, jobs: Sequence[Job], size: int) -> list[Array]:
    """The arrays of a stage, with at most `size` jobs each; each round waits for the one before.

    Jobs that take GPUs come first, then those that take none.
    Each array runs at least one job at a time, so at most profile.parallel arrays may run side by side.
    """
    made: list[Array] = []
    before: list[int] = []
    for group in rounds(e, jobs):
        kinds = [[job for job in group if spares_gpu(e, job) is spares] for spares in (False, True)]
        parts = [kind[i : i + size] for kind in kinds for i in range(0, len(kind), size)]
        first = len(made)
        for number, part in enumerate(parts):
            turn = [first + number - e.profile.parallel] if number >= e.profile.parallel else []
            made.append(Array(part, [*before, *turn], len(parts)))
        before = [*range(first, len(made))]
    return made


def slurm_task(plan: Plan, job: Job) -> SlurmTask:
    """The callable that Submitit pickles for a Slurm job."""
    e = plan.experiment
    share = e.profile.cpus_per_task if job.stage == PREPARE else slots(e)
    return SlurmTask(str(plan.run.path), job.stage, job.label, share, job.index, nodes_of(e, job.stage))


def options(
    plan: Plan, stage: str, code: Path, after: list[str], parts: int = 1, gpu: bool = True
) -> dict[str, Any]:
    """A stage's options under Submitit's names; `after`: ids of jobs it waits for, however they end.

    Ray's searches, the final training and `prepare` get the profile's whole resources; jobs that train one
    network get a slot's share. A stage that is split into several arrays shares its parallelism among them.
    Jobs without `gpu` ask for none, and go to profile.cpu_partition if there is one.
    """
    e, p = plan.experiment, plan.experiment.profile
    ranks = processes(e, stage)
    cpus, gpus, mem = p.cpus_per_task // ranks, p.gpus_per_node, p.mem
    if stage not in (PREPARE, FINAL) and not (stage == SEARCH and e.backend == "ray"):
        cpus, gpus = max(e.operations.threads, cpus // slots(e)), min(gpus, ranks)
        mem = part_of(p.mem, slots(e))
    extra = extra_options(p)
    placed: dict[str, Any] = {
        "partition": p.partition,
        "constraint": p.constraint,
        "reservation": p.reservation,
    }
    if not gpu:
        extra = {name: value for name, value in extra.items() if name not in OF_GPUS}
        # Features and reservations of nodes with GPUs mean nothing elsewhere.
        placed = {"partition": p.cpu_partition} if p.cpu_partition else placed
    elif p.gres:
        extra = {"gres": gres_for(p, gpus)} | extra
    else:
        placed["gpus_per_node"] = gpus
    reservation = placed.pop("reservation", "")
    cpus = extra.get("cpus_per_task", cpus)
    chosen = {**placed, "account": p.account, "qos": p.qos}
    more = {"mem": mem, "reservation": reservation, "dependency": after and "afterany:" + ":".join(after)}
    return {
        **{name: value for name, value in chosen.items() if value},
        "job_name": f"{stage}-{e.sweep}",  # squeue shows its first eight letters
        "comment": str(plan.run.path),
        "time": p.minutes,
        "nodes": nodes_of(e, stage),
        "ntasks_per_node": ranks,
        "cpus_per_task": cpus,
        # Since Slurm 22.05 srun does not inherit cpus-per-task. Without kill-on-bad-exit the other
        # ranks would wait for ever. A site's or a user's export=NONE would drop the script's variables.
        "srun_args": [f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1", "--export=ALL"],
        "array_parallelism": max(1, p.parallel // parts),
        "signal_delay_s": p.signal_delay,
        "wckey": None,
        "setup": [*p.setup, *exports(code)],
        "additional_parameters": {"requeue": True, "signal": f"USR2@{p.signal_delay}"}
        | {k: v for k, v in more.items() if v}
        | extra,
    }


def gres_for(p: ProfileSettings, gpus: int) -> str:
    """profile.gres for a job that has so many of the node's GPUs."""
    name, _, count = p.gres.rpartition(":")
    return f"{name}:{int(count) * gpus // p.gpus_per_node}"


def part_of(mem: str, parts: int) -> str:
    """An equal part of an amount of memory such as 16G; 0, which means all of a node's, stays."""
    size = MEMORY.fullmatch(mem)
    if size is None or parts == 1 or not int(size[1]):
        return mem
    return f"{math.ceil(int(size[1]) * MEGABYTES[(size[2] or 'M').upper()] / parts)}M"


def scripts(plan: Plan, stage: Stage, code: Path) -> dict[str, str]:
    """A stage's sbatch scripts by array, as they would be submitted. Works without Slurm."""
    p, folder = plan.experiment.profile, submissions.logs(plan.run, stage.name)
    command = (
        f"{p.python or shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    )
    made: dict[str, str] = {}
    arrays = arrays_of(plan.experiment, stage.jobs, p.max_array)
    for number, array in enumerate(arrays, 1):
        after = [f"<{name}>" for name in (*stage.after, *([*made][i] for i in array.after))]
        name = f"{stage.name}, part {number} of {len(arrays)}" if len(arrays) > 1 else stage.name
        gpu = not spares_gpu(plan.experiment, array.jobs[0])
        made[name] = _make_sbatch_string(
            command=command,
            folder=folder,
            map_count=len(array.jobs) if len(array.jobs) > 1 else None,
            **options(plan, stage.name, code, after, array.beside, gpu),
        )
    return made


class RankedTask(Task):
    """A task that may run in several processes: sets each one's rank and the address of the first."""

    def __call__(self) -> None:
        job = submitit.JobEnvironment()
        replace_variables(without_rank_variables(os.environ))  # srun's MPI plugin sets ranks of its own
        if gpus := os.environ.pop(GPUS, ""):
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus
        if job.num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
            os.environ[PEER] = job.hostnames[-1]
        super().__call__()


class SlurmTask(RankedTask):
    """A task that Slurm may interrupt: at Slurm's warning Submitit calls `checkpoint` and requeues it."""

    def __call__(self) -> None:
        # Slurm sends SIGTERM to all processes of a job, Ray's too, before it kills them.
        signal.signal(signal.SIGTERM, lambda *_: self.interrupt())
        super().__call__()

    def checkpoint(self) -> DelayedSubmission:
        self.interrupt()
        return DelayedSubmission(SlurmTask(*dataclasses.astuple(self)))
