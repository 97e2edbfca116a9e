"""What runs inside an allocation. A job holds the path of its sweep and finds everything else on disk, so it
can be killed at any instant and run again.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from hpc.jobs.registry import WORK
from hpc.plan.sweep_plan import FINAL, PREPARE, SEARCH, Job, Plan, reopen, unfinished
from hpc.search.rendezvous import Meeting
from hpc.search.runner import Runner
from hpc.search.supervisor import STOPPED, Driver
from hpc.stages.final import train_final
from hpc.stages.scratch import stage_data
from hpc.state import submissions
from hpc.state.completion import inputs, reads_others, target
from hpc.state.logs import last_words, tail
from hpc.state.records import attempt, ended, record, witness
from hpc.state.snapshot import of_jobs
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import lock, locked, read_json

# How often a search that was killed, by hand or for its memory, is started again within its job.
DRIVER_RESTARTS = 2


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
        if rank := int(os.environ.get("RANK", "0")):
            # One of several processes of a job: the first of them keeps the record.
            with witness(run, name, rank):
                return self.work_along(reopen(run), name)
        # A launcher that was killed can leave its job behind: wait for it, then do what it left undone.
        file = run.jobs / f"{name}.lock"
        with lock(file, wait=float("inf"), what=name) as held, record(run, name) as tell:
            assert held is not None
            plan = reopen(run)
            job = Job(self.stage, self.label, index=self.index)
            s = of_jobs(plan, [job] if reads_others(job) else [])
            tell(
                target=target(plan, self.stage), classes=plan.experiment.classes, inputs=inputs(plan, job, s)
            )
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
        """Run the class's trials in a process of their own; where that dies, it is started again."""
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
            if code in (0, STOPPED) or self.driver.error:
                break
            # It died: by a signal, without a Ray, or of what it could not say. All that it did is on disk.
            print(f"the search ended with {code} (start {start + 1})", file=sys.stderr, flush=True)
        if code:
            died = f"the search's process ended with {code}"
            raise SkinGanError(self.driver.error or ": ".join(filter(None, [died, self.driver.words])))

    def lend_node(self, plan: Plan, name: str) -> None:
        """Make this node one of the Ray of the job's first, until the search there ends.

        A Ray that is killed is started again; SkinGanError if it does not stay.
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
                raise SkinGanError(
                    f"Ray does not stay on {socket.gethostname()}: it ended with {code}: {self.driver.words}"
                )

    def interrupt(self) -> None:
        """End what runs on this node of the search, if there is one; called by a signal handler."""
        if driver := getattr(self, "driver", None):
            # `ray start` would take all of the time that Slurm gives a job to end; it has nothing to save.
            driver.stop(grace=5.0 if driver.held else 1.0)


def await_end() -> NoReturn:
    """Sleep until Slurm, which sent SIGTERM, ends or requeues this job: ending by itself would fail it."""
    while True:
        time.sleep(1.0)


def await_trials(plan: Plan, label: str) -> None:
    """Wait until none is trained: another node may need a moment to notice that the Ray before has ended."""
    while any(locked(folder.lock) for _, folder in plan.trials(label)):
        time.sleep(1.0)


def run_trial(plan: Plan, label: str, index: int) -> None:
    """One trial in this very process. Raises SkinGanError if it fails."""
    check_prepared(plan.run)
    if not unfinished(plan.trials(label)[index][1].state(), plan.experiment.search.rungs[-1]):
        return  # done since this job was submitted
    os.environ.update(stage_data(plan))
    runner = Runner(plan, label)
    if runner.run(index)["failed"]:
        raise SkinGanError(runner.folder.state()["reason"])


def check_prepared(run: RunFolder) -> None:
    """Stop now if the stage before did not end well: its message says more than what would fail here."""
    before = read_json(run.jobs / f"{PREPARE}.json") or {"state": "missing"}
    if before["state"] != "done":
        given = submissions.latest(run).get(PREPARE)
        log = "" if given is None or given.id == before.get("slurm") else tail(given.log(run))
        why = last_words(log) or before.get("error") or "see its log"
        raise SkinGanError(f"{PREPARE} is {before['state']}, not done: {why}")
