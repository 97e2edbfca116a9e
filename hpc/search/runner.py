"""Training trials of one class in this process, rung by rung: what Ray's workers and array elements do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import traceback
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.plan.sweep_plan import Plan, reopen
from skin_gan.errors import cause
from skin_gan.folders import COMPLETED, DIVERGED, FAILED, RunFolder
from skin_gan.io import waiting

# A metric that cannot be computed ranks last and stops its trial.
WORST = float("inf")


class Runner:
    """One trial at a time, one after the other; torch and the class's features load once."""

    def __init__(self, plan: Plan, label: str, devices: int = 1) -> None:
        """`devices`: processes that train a trial together, this one and others that it starts."""
        self.plan, self.label, self.devices = plan, label, devices
        self.others: list[subprocess.Popen[bytes]] = []

    @cached_property
    def inputs(self) -> Any:
        from hpc.stages.inputs import Inputs

        return Inputs(self.plan)

    @cached_property
    def split(self) -> Any:
        return self.inputs.split(self.label)

    @cached_property
    def judge(self) -> Any:
        """Of several processes only the first one asks it."""
        return self.inputs.judge(self.label)

    def open(self, index: int) -> None:
        """Turn to another trial, new or where its folder says that it is."""
        self.close()
        if self.devices > 1:
            self.others = start_others(self.plan.run, self.label, index, self.devices)
        self.spec, self.folder = self.plan.trials(self.label)[index]
        self.rung = 0

    @cached_property
    def session(self) -> Any:
        from skin_gan.training.session import Session

        e = self.plan.experiment
        return Session(
            self.spec, self.folder, self.split, e.operations, e.evaluate, source=self.plan.source(self.spec)
        )

    def run(self, index: int) -> dict[str, Any]:
        """A whole trial; the result of its last rung."""
        self.open(index)
        from skin_gan.training.devices import end_processes

        while not (result := self.step())["ended"]:
            pass
        self.close()
        end_processes()
        return result

    def step(self) -> dict[str, Any]:
        """Train to the next rung and measure there. What goes wrong is recorded in the trial's folder."""
        from skin_gan.training.session import Diverged

        rungs = self.plan.experiment.search.rungs
        kimg = rungs[self.rung]
        self.rung += 1
        named = waiting.set(lambda what: self.folder.update(waiting=what))
        try:
            judge = self.judge if self.session.main else lambda _: {}
            row = self.session.advance(kimg, judge, target=rungs[-1])
        except Diverged as e:
            return self.end(DIVERGED, str(e), kimg)
        except Exception as e:  # recorded with its trace; the other trials go on
            traceback.print_exc()
            return self.end(FAILED, cause(e), kimg)
        finally:
            waiting.reset(named)
        if row["kid"] is None:
            return self.end(DIVERGED, row["note"], kimg)
        if kimg >= rungs[-1]:
            return self.end(COMPLETED, "", kimg, row["kid"])
        return {"kimg": kimg, "kid": row["kid"], "ended": False, "failed": False}

    def end(self, state: str, reason: str, kimg: float, kid: float = WORST) -> dict[str, Any]:
        if "session" in self.__dict__:
            self.session.finish(state, reason)
        else:  # it could not even be opened
            self.folder.update(state=state, reason=reason)
        return {"kimg": kimg, "kid": kid, "ended": True, "failed": state == FAILED}

    def close(self) -> None:
        for process in self.others:
            process.kill()
            process.wait()
        if session := self.__dict__.pop("session", None):
            session.close()


def start_others(run: RunFolder, label: str, index: int, count: int) -> list[subprocess.Popen[bytes]]:
    """Start the processes that train a trial together with this one, which becomes the first of `count`.

    They find one another by the environment, from which Accelerate takes their number and this machine's
    devices. They end when this one does: their next exchange with it fails.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(count))
    os.environ.update(common, RANK="0", LOCAL_RANK="0")
    command = [sys.executable, "-m", "hpc.search.runner", str(run.path), label, str(index)]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(1, count)]
    return [subprocess.Popen(command, env=os.environ | rank) for rank in ranks]


def main(run: str, label: str, index: str) -> None:
    """Train along, as one of the processes of a trial that another one has started."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm warns every process of a job
    Runner(reopen(RunFolder(Path(run))), label).run(int(index))


if __name__ == "__main__":
    main(*sys.argv[1:])
