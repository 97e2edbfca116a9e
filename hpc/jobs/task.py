"""The code that runs inside a job. A job knows its sweep's path and reads all else from disk, so it can
be killed at any instant and run again.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hpc.jobs.notify import notify_if_last
from hpc.jobs.registry import WORK
from hpc.plan.sweep_plan import (
    FINAL,
    FOLDS,
    PREPARE,
    PRETRAIN,
    SEARCH,
    Job,
    Plan,
    reopen,
    spares_gpu,
    unfinished,
)
from hpc.search.proposals import propose_until
from hpc.search.rendezvous import Meeting
from hpc.search.runner import Runner
from hpc.search.supervisor import STOPPED, Driver
from hpc.stages.final import train_final
from hpc.stages.prepare import check_node_weights
from hpc.stages.scratch import stage_data
from hpc.state import submissions
from hpc.state.completion import inputs, reads_others, target
from hpc.state.limits import LimitReached, checking, closed
from hpc.state.logs import last_words, tail
from hpc.state.records import attempt, ended, record, record_rank_error
from hpc.state.snapshot import of_jobs
from skin_gan import folders
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import lock, locked, read_json

DRIVER_RESTARTS = 2  # how often a job restarts the process of its search, which may be killed for its memory


@dataclass
class Task:
    """The callable that is pickled for a job."""

    run: str
    stage: str
    label: str
    slots: int  # trials at a time
    index: int | None = None  # the job's only trial (backend=array); None: all trials of the class
    nodes: int = 1  # of a search with Ray, which trains `slots` trials at a time on each

    def __call__(self) -> None:
        run, name = RunFolder(Path(self.run)), Job(self.stage, self.label, index=self.index).name
        if rank := int(os.environ.get("RANK", "0")):
            with record_rank_error(run, name, rank):  # rank 0 keeps the job record
                plan = reopen(run)
                self.check_weights(plan)
                return self.run_as_other_rank(plan, name)
        try:
            self.run_first(run, name)
        except LimitReached as e:
            print(f"stopped: {e}", file=sys.stderr, flush=True)
            if os.environ.get("WORLD_SIZE", "1") != "1":
                raise  # so that srun ends the other processes
        finally:
            notify_if_last(run, self.stage)

    def run_first(self, run: RunFolder, name: str) -> None:
        """Run the job's only or first process, which keeps its lock and record."""
        # A killed launch can leave its job running: wait for that job, then do what it has left undone.
        file = run.jobs / f"{name}.lock"
        with lock(file, wait=float("inf"), what=name) as held, record(run, name) as tell:
            assert held is not None
            plan = reopen(run)
            job = Job(self.stage, self.label, index=self.index)
            s = of_jobs(plan, [job] if reads_others(job) else [])
            tell(
                target=target(plan, self.stage), classes=plan.experiment.classes, inputs=inputs(plan, job, s)
            )
            if plan.experiment.profile.kind == "slurm" and spares_gpu(plan.experiment, job):
                plan.experiment.operations.device = "cpu"  # the job has asked for no GPU
            if why := closed(plan, self.stage):
                raise LimitReached(why)
            self.check_weights(plan)
            if self.stage == SEARCH and self.index is not None:
                run_trial(plan, self.label, self.index)
            elif self.stage == SEARCH:
                self.search(plan, name, held)
            else:
                WORK[self.stage](plan, self.label, checking(run, tell))

    def check_weights(self, plan: Plan) -> None:
        """SkinGanError if the job trains and its node, which may be another than prepare's, lacks weights."""
        if self.stage in (PRETRAIN, SEARCH, FINAL, FOLDS):
            check_node_weights(plan)

    def run_as_other_rank(self, plan: Plan, name: str) -> None:
        """Run a process other than the job's first: train together with that one, or lend it this node."""
        if self.stage == FINAL:
            train_final(plan, self.label)
        elif self.index is not None:
            run_trial(plan, self.label, self.index)
        else:
            self.lend_node(plan, name)

    def search(self, plan: Plan, name: str, held: IO[bytes]) -> None:
        """Run the class's trials in a separate process, which is restarted if it dies."""
        check_prepared(plan.run)
        variables = {**os.environ, **stage_data(plan)}
        meeting = Meeting.of(plan.run, name, attempt())
        meeting.forget_earlier()
        arguments = [self.run, self.label, str(self.slots), str(self.nodes), str(meeting.path)]
        for start in range(1 + DRIVER_RESTARTS):
            # Workers of the previous Ray on other nodes may still be exiting.
            while self.nodes > 1 and any(locked(folder.lock) for _, folder in plan.trials(self.label)):
                time.sleep(1.0)
            self.driver = Driver(arguments, secrets.token_hex(32), variables, held)
            try:
                code = self.driver.wait()
            finally:
                meeting.forget()
            if self.driver.stopped:
                held.close()  # the requeued job may already run elsewhere
                while True:  # until Slurm ends or requeues this job: exiting now would mark it as failed
                    time.sleep(1.0)
            if code in (0, STOPPED) or self.driver.error:
                break
            # It was killed, found no Ray, or crashed without a message. All its results are on disk.
            print(f"the search exited with {code} (start {start + 1})", file=sys.stderr, flush=True)
        if code:
            died = f"the search's process exited with {code}"
            raise SkinGanError(self.driver.error or ": ".join(filter(None, [died, self.driver.reason])))
        for _, folder in plan.trials(self.label):
            raise_if_stopped(folder.state())

    def lend_node(self, plan: Plan, name: str) -> None:
        """Join this node to the Ray of the job's first node until the search there ends.

        A Ray process that dies is restarted; SkinGanError if it dies more than `DRIVER_RESTARTS` times.
        """
        variables = {**os.environ, **stage_data(plan)}
        meeting = Meeting.of(plan.run, name, attempt())
        lost = 0
        while not ended(plan.run, name):
            if (head := meeting.head()) is None:
                time.sleep(1.0)
                continue
            self.driver = Driver(["join", self.run, head.address, str(self.slots)], head.token, variables)
            code = self.driver.wait(functools.partial(meeting.points_to, head), every=1.0)
            if self.driver.stopped:
                return
            if meeting.points_to(head):
                lost += 1
                print(f"this node's Ray exited with {code} (start {lost})", file=sys.stderr, flush=True)
            if lost > DRIVER_RESTARTS:
                raise SkinGanError(
                    f"Ray keeps dying on {socket.gethostname()}: it exited with {code}: {self.driver.reason}"
                )

    def interrupt(self) -> None:
        """Stop the search's process on this node, if there is one; called by a signal handler."""
        if driver := getattr(self, "driver", None):
            # A lent node has nothing to save, and `ray start` would use up the time that Slurm gives a job.
            driver.stop(grace=5.0 if driver.held else 1.0)


def run_trial(plan: Plan, label: str, index: int) -> None:
    """Run one trial in this process. Raises SkinGanError if it fails."""
    check_prepared(plan.run)
    propose_until(plan, label, index)
    if not unfinished(plan.trials(label)[index][1].state(), plan.experiment):
        return  # done since this job was submitted
    os.environ.update(stage_data(plan))
    runner = Runner(plan, label)
    if runner.run(index)["failed"]:
        state = runner.folder.state()
        raise_if_stopped(state)
        raise SkinGanError(state["reason"])


def raise_if_stopped(state: Mapping[str, Any]) -> None:
    """LimitReached if a trial in this state has stopped itself."""
    if state["state"] == folders.STOPPED:
        raise LimitReached(state["reason"])


def check_prepared(run: RunFolder) -> None:
    """SkinGanError if `prepare` has not succeeded, with its own reason: later errors would say less."""
    before = read_json(run.jobs / f"{PREPARE}.json") or {"state": "missing"}
    if before["state"] != "done":
        submission = submissions.latest(run).get(PREPARE)
        log = "" if submission is None or submission.id == before.get("slurm") else tail(submission.log(run))
        why = last_words(log) or before.get("error") or "see its log"
        raise SkinGanError(f"{PREPARE} is {before['state']}, not done: {why}")
