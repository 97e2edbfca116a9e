"""Training trials of one class in this process, rung by rung: what Ray's workers and array elements do."""

from __future__ import annotations

import traceback
from functools import cached_property
from typing import Any

from hpc.plan import Plan
from skin_gan.run import COMPLETED, DIVERGED, FAILED

# A metric that cannot be computed ranks last and stops its trial.
WORST = float("inf")


class Runner:
    """One trial at a time, one after the other; torch and the class's features load once."""

    def __init__(self, plan: Plan, label: str) -> None:
        self.plan, self.label = plan, label

    @cached_property
    def judged(self) -> tuple[Any, Any]:
        """The class's images and its judge."""
        from hpc.inputs import Inputs

        inputs = Inputs(self.plan)
        return inputs.split(self.label), inputs.judge(self.label)

    def open(self, index: int) -> None:
        """Turn to another trial, new or where its folder says that it is."""
        self.close()
        self.spec, self.folder = self.plan.trials(self.label)[index]
        self.rung = 0

    @cached_property
    def session(self) -> Any:
        from skin_gan.train import Session

        e = self.plan.experiment
        return Session(self.spec, self.folder, self.judged[0], e.operations, e.evaluate)

    def run(self, index: int) -> dict[str, Any]:
        """A whole trial; the result of its last rung."""
        self.open(index)
        while not (result := self.step())["ended"]:
            pass
        self.close()
        return result

    def step(self) -> dict[str, Any]:
        """Train to the next rung and measure there. What goes wrong is recorded in the trial's folder."""
        from skin_gan.train import Diverged

        rungs = self.plan.experiment.search.rungs
        kimg = rungs[self.rung]
        self.rung += 1
        try:
            row = self.session.advance(kimg, self.judged[1], target=rungs[-1])
        except Diverged as e:
            return self.end(DIVERGED, str(e), kimg)
        except Exception as e:  # recorded with its trace; the other trials go on
            traceback.print_exc()
            return self.end(FAILED, f"{type(e).__name__}: {e}", kimg)
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
        if session := self.__dict__.pop("session", None):
            session.close()
