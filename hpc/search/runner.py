"""Trains trials of one class in this process, rung by rung; run by Ray's workers and by array elements."""

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

from hpc.plan.sweep_plan import Plan, reopen, search_half
from hpc.state.limits import reached
from skin_gan.errors import cause
from skin_gan.folders import ALARMED, COMPLETED, DIVERGED, FAILED, STOPPED, RunFolder
from skin_gan.io import waiting

WORST = float("inf")  # in place of a KID that cannot be computed: it ranks last and stops its trial


class Runner:
    """Runs trials one after another; torch and the class's features are loaded once."""

    def __init__(self, plan: Plan, label: str, devices: int = 1) -> None:
        """`devices`: the number of processes that train a trial together, including this one."""
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
        """Measures generated images; used by the first process only."""
        return self.inputs.judge(self.label, half=search_half(self.plan.experiment))

    def open(self, index: int) -> None:
        """Switch to another trial; one that has begun resumes from its folder."""
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
        """Run a whole trial and return the result of its last rung."""
        self.open(index)
        from skin_gan.training.devices import end_processes

        while not (result := self.step())["ended"]:
            pass
        self.close()
        end_processes()
        return result

    def step(self) -> dict[str, Any]:
        """Train to the next rung and evaluate. A failure is recorded in the trial's folder, not raised."""
        from skin_gan.training.session import Diverged, Stopped

        rungs = self.plan.experiment.search.rungs
        kimg = rungs[self.rung]
        self.rung += 1
        if why := self.limit():
            self.folder.update(state=STOPPED, reason=why)
            return {"kimg": kimg, "kid": WORST, "ended": True, "failed": True}  # and so no decision is made
        named = waiting.set(lambda what: self.folder.update(waiting=what))
        try:
            judge = self.judge if self.session.main else lambda _: {}
            row = self.session.advance(kimg, judge, target=rungs[-1])
        except Diverged as e:
            return self.end(DIVERGED, str(e), kimg)
        except Stopped as e:
            return self.end(ALARMED, str(e), kimg)
        except Exception as e:  # the other trials go on
            traceback.print_exc()
            return self.end(FAILED, cause(e), kimg)
        finally:
            waiting.reset(named)
        if row["kid"] is None:
            return self.end(DIVERGED, row["note"], kimg)
        if kimg >= rungs[-1]:
            return self.end(COMPLETED, "", kimg, row["kid"])
        return {"kimg": kimg, "kid": row["kid"], "ended": False, "failed": False, "alarmed": False}

    def limit(self) -> str:
        """The sweep's limit that is reached, in words; "" if the trial may go on.

        Processes that train a trial together cannot ask between rungs: their answers might differ.
        """
        alone = os.environ.get("WORLD_SIZE", "1") == "1" or (self.devices > 1 and self.rung == 1)
        return reached(self.plan.run) if alone else ""

    def end(self, state: str, reason: str, kimg: float, kid: float = WORST) -> dict[str, Any]:
        """Record the trial's final state; returns its last result."""
        if "session" in self.__dict__:
            self.session.finish(state, reason)
        else:  # the session could not be opened
            self.folder.update(state=state, reason=reason)
        kinds = {"failed": state == FAILED, "alarmed": state == ALARMED}
        return {"kimg": kimg, "kid": kid, "ended": True, **kinds}

    def close(self) -> None:
        """End the trial's other processes and close its session."""
        for process in self.others:
            process.kill()
            process.wait()
        if session := self.__dict__.pop("session", None):
            session.close()


def start_others(run: RunFolder, label: str, index: int, count: int) -> list[subprocess.Popen[bytes]]:
    """Start the processes that train a trial together with this one, which becomes rank 0 of `count`.

    They find one another by environment variables, from which Accelerate also takes ranks and devices. They
    end with this process, since their next exchange with it fails.
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
    """Take part in a trial as one of the processes that another one has started."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm warns every process of a job
    Runner(reopen(RunFolder(Path(run))), label).run(int(index))


if __name__ == "__main__":
    main(*sys.argv[1:])
