"""Where jobs run: on this machine, or on Slurm. The only module that imports Submitit."""

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
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment
from submitit.slurm.slurm import _make_sbatch_string  # private: the one way to a script without Slurm

from hpc.jobs.task import Task
from hpc.plan.sweep_plan import FINAL, PREPARE, SEARCH, Job, Plan, Stage, nodes_of, processes
from hpc.search.rendezvous import PEER
from hpc.settings.compose import Experiment
from hpc.settings.profiles import MEMORY, extra_options
from hpc.slurm import client
from hpc.state import submissions
from hpc.state.completion import complete
from hpc.state.environment import DEVICES, alone, clean, replace_variables
from hpc.state.logs import last_words, tail
from hpc.state.provenance import exports, job_environment
from hpc.state.records import error_of
from hpc.state.snapshot import Snapshot, of_jobs
from hpc.state.submissions import Submission
from skin_gan.cores import cores
from skin_gan.errors import SkinGanError
from skin_gan.io import locked, read_json

# Submitit's local jobs must have a time limit; this machine has none.
A_YEAR = 365 * 24 * 60
GPUS = "SKIN_GAN_GPUS"  # environment variable of a local job: the GPUs that its launch was confined to
MEGABYTES = {"K": 2**-10, "M": 1, "G": 2**10, "T": 2**20}  # in sbatch's units


def slots(e: Experiment) -> int:
    """Trials that this machine, or a job of this cluster, trains at a time."""
    p = e.profile
    available = p.cpus_per_task if p.kind == "slurm" else cores()
    devices = p.gpus_per_node or available // e.operations.threads
    return p.slots or max(1, devices // p.devices_per_trial)


def run_local(plan: Plan, wanted: list[Job], code: Path, watch: Callable[[], None], s: Snapshot) -> list[str]:
    """Run the wanted jobs on this machine, from the frozen `code`, as many at a time as it has slots.

    Calls `watch` several times a second. Returns a line for each job that failed; later stages still run, on
    what there is. Ctrl-C, or any exception from `watch`, stops the jobs; everything on disk stays usable.
    """
    failures, chosen, ran = [], set(wanted), False
    os.environ.update(job_environment(code, os.environ))
    for stage in plan.stages:
        jobs = [job for job in stage.jobs if job in chosen]
        if ran:  # jobs have changed the folder since the launch read it
            s = of_jobs(plan, jobs)
        jobs = [job for job in jobs if not complete(plan, job, s)]
        ran = ran or bool(jobs)
        # The processes of a final training have all of this machine's GPUs.
        alone = stage.name == FINAL and plan.experiment.profile.gpus_per_node
        failures += run_jobs(plan, jobs, 1 if alone else slots(plan.experiment), watch)
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
    """Why a job of this machine that has ended is not done, and where its log is; "" where it is done."""
    record = read_json(plan.run.jobs / f"{job.name}.json") or {}
    if record.get("attempt") != f"{ran.job_id}-0":
        record = {}  # of an earlier run: this one died before it could write one
    if record.get("state") == "done":
        return ""
    log = ran.paths.stderr
    why = error_of(plan.run, job.name, record) or last_words(tail(log), sure=bool(record)) or "it was killed"
    return f"{why} (log: {log})"


def submit_local(plan: Plan, job: Job, share: int) -> submitit.Job[None]:
    """Start a job on this machine: it gets `share` of the slots, and the GPUs that this process may use."""
    executor = submitit.LocalExecutor(folder=plan.run.jobs / job.name)
    e = plan.experiment
    executor.update_parameters(
        timeout_min=A_YEAR,
        gpus_per_node=e.profile.gpus_per_node,
        tasks_per_node=processes(e, job.stage),
    )
    log = plan.run.jobs / job.name / "controller.log"
    with clean(**visible_gpus(e.profile.gpus_per_node)), standard_error(log):
        return executor.submit(RankedTask(str(plan.run.path), job.stage, job.label, share, job.index))


def visible_gpus(count: int) -> dict[str, str]:
    """The variable that gives a job the first `count` of the GPUs that this process is confined to.

    Submitit would give it those of the whole machine, which others may use.
    """
    mine = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return {GPUS: ",".join(mine.split(",")[:count])} if mine and count else {}


@contextmanager
def standard_error(log: Path) -> Iterator[None]:
    """Children that are started in the block write their errors to `log`.

    Submitit's controller of a local job reports how it was interrupted; the job's own messages go elsewhere.
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
    """Interrupt the jobs and wait until none of their processes is left: each holds its job's lock."""
    for job in running.values():
        job.cancel()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(locked(plan.run.jobs / f"{job.name}.lock") for job in running):
        time.sleep(0.1)


def submit_stage(
    plan: Plan, stage: Stage, jobs: list[Job], code: Path, after: list[Submission]
) -> list[Submission]:
    """Submit jobs as arrays, each recorded as soon as Slurm has taken it. SkinGanError if it refuses one."""
    p, made = plan.experiment.profile, []
    if shutil.which("srun") is None:  # by which Submitit knows that there is a Slurm
        raise client.Unreachable("there is no srun here: run this where Slurm's commands are")
    ids = sorted({s.base for s in after})
    parts = chunks(jobs, min(p.max_array, client.max_array() or p.max_array)) if jobs else []
    arrays: list[str] = []
    for part in parts:
        executor = submitit.SlurmExecutor(
            submissions.logs(plan.run, stage.name), max_num_timeout=p.requeues, python=p.python or None
        )
        waits_for = [*ids, *turn(arrays, p.parallel)]
        executor.update_parameters(**options(plan, stage.name, code, waits_for, len(parts)))
        try:
            with clean(without=DEVICES), executor.batch():
                results = [executor.submit(task(plan, job)) for job in part]
        except (FailedJobError, FailedSubmissionError) as e:
            said = re.findall(r"sbatch: (?:error|fatal): (.+)", str(e)) or [last_words(str(e)) or str(e)]
            reason = "; ".join(dict.fromkeys(said))
            raise SkinGanError(
                f"sbatch refused the jobs of stage {stage.name}: {reason}; correct the profile and launch "
                f"again (what is queued stays; `python hpc/steer.py cancel {plan.run.path}` ends it)"
            ) from e
        for job, result in zip(part, results, strict=True):
            made.append(Submission(job.name, result.job_id))
            submissions.add(plan.run, made[-1])
        arrays.append(made[-1].base)
    return made


def chunks(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def turn(arrays: list[str], parallel: int) -> list[str]:
    """The array that the next of a stage waits for: each runs one job at least, and `parallel` may run."""
    return arrays[-parallel:][:1] if len(arrays) >= parallel else []


def task(plan: Plan, job: Job) -> SlurmTask:
    e = plan.experiment
    share = e.profile.cpus_per_task if job.stage == PREPARE else slots(e)
    return SlurmTask(str(plan.run.path), job.stage, job.label, share, job.index, nodes_of(e, job.stage))


def options(plan: Plan, stage: str, code: Path, after: list[str], parts: int = 1) -> dict[str, Any]:
    """A stage's options in Submitit's words; `after`: ids of the jobs it waits for, however they end.

    Ray's searches, the final training and the check of a node before them get what the profile says; jobs
    that train one thing get a slot's share. An array in several parts shares its parallelism among them.
    """
    e, p = plan.experiment, plan.experiment.profile
    ranks = processes(e, stage)
    cpus, gpus, mem = p.cpus_per_task // ranks, p.gpus_per_node, p.mem
    if stage not in (PREPARE, FINAL) and not (stage == SEARCH and e.backend == "ray"):
        cpus, gpus = max(e.operations.threads, cpus // slots(e)), min(gpus, ranks)
        mem = part_of(p.mem, slots(e))
    extra = extra_options(p)
    cpus = extra.get("cpus_per_task", cpus)
    chosen = {
        "partition": p.partition, "account": p.account, "qos": p.qos, "constraint": p.constraint,
        "gpus_per_node": gpus,
    }  # fmt: skip
    more = {"mem": mem, "reservation": p.reservation, "dependency": after and "afterany:" + ":".join(after)}
    return {
        **{name: value for name, value in chosen.items() if value},
        "job_name": f"{stage}-{e.sweep}",  # of which squeue shows eight letters
        "comment": str(plan.run.path),
        "time": p.minutes,
        "nodes": nodes_of(e, stage),
        "ntasks_per_node": ranks,
        "cpus_per_task": cpus,
        # Since Slurm 22.05 srun no longer takes it from sbatch. Without one of them, ranks wait for ever.
        # The site's or the user's export=NONE would take from them what the script has set.
        "srun_args": [f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1", "--export=ALL"],
        "array_parallelism": max(1, p.parallel // parts),
        "signal_delay_s": p.signal_delay,
        "wckey": None,
        "setup": [*p.setup, *exports(code)],
        "additional_parameters": {"requeue": True, "signal": f"USR2@{p.signal_delay}"}
        | {k: v for k, v in more.items() if v}
        | extra,
    }


def part_of(mem: str, parts: int) -> str:
    """Of an amount of memory in sbatch's words, such as 16G, an equal part; 0, all of a node's, stays."""
    size = MEMORY.fullmatch(mem)
    if size is None or parts == 1 or not int(size[1]):
        return mem
    return f"{math.ceil(int(size[1]) * MEGABYTES[(size[2] or 'M').upper()] / parts)}M"


def scripts(plan: Plan, stage: Stage, code: Path) -> dict[str, str]:
    """A stage's sbatch scripts by array, as they would be submitted; Slurm need not be installed."""
    p, folder = plan.experiment.profile, submissions.logs(plan.run, stage.name)
    command = (
        f"{p.python or shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    )
    made: dict[str, str] = {}
    parts = chunks(stage.jobs, p.max_array)
    for number, part in enumerate(parts, 1):
        after = [f"<{name}>" for name in (*stage.after, *turn([*made], p.parallel))]
        name = f"{stage.name}, part {number} of {len(parts)}" if len(parts) > 1 else stage.name
        made[name] = _make_sbatch_string(
            command=command,
            folder=folder,
            map_count=len(part) if len(stage.jobs) > 1 else None,
            **options(plan, stage.name, code, after, len(parts)),
        )
    return made


class RankedTask(Task):
    """A task of which a job may run several processes: each gets its rank and where to find the others."""

    def __call__(self) -> None:
        job = submitit.JobEnvironment()
        replace_variables(alone(os.environ))  # srun's plugin for MPI says what it takes for the ranks, too
        if gpus := os.environ.pop(GPUS, ""):
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus
        if job.num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
            os.environ[PEER] = job.hostnames[-1]
        super().__call__()


class SlurmTask(RankedTask):
    """A task that Slurm may interrupt: Submitit calls `checkpoint` at its warning, and requeues the job."""

    def __call__(self) -> None:
        # Before it kills a job Slurm sends SIGTERM to all processes of it, Ray's too.
        signal.signal(signal.SIGTERM, lambda *_: self.interrupt())
        super().__call__()

    def checkpoint(self) -> DelayedSubmission:
        self.interrupt()
        return DelayedSubmission(SlurmTask(*dataclasses.astuple(self)))
