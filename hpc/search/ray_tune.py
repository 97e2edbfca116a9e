"""Ray Tune over the trials of one class, run by `hpc.jobs.task`.

`python -m hpc.search.ray_tune RUN LABEL SLOTS NODES MEETING FOLDER` starts Ray and
searches. `python -m hpc.search.ray_tune join RUN ADDRESS SLOTS FOLDER` lends it another node of the job.

Which trials there are, and what each has reached, is on disk. Ray gets the unfinished ones and a scheduler
that has been told again, in order, every decision recorded so far; so a job that was killed, preempted or
extended goes on as if it had never stopped, and no Ray state outlives its process. The only module that
imports Ray.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from hpc.plan.sweep_plan import Plan, reopen, unfinished
from hpc.search.rendezvous import Head, Meeting, own_address
from hpc.search.runner import WORST, Runner
from hpc.search.supervisor import NO_RAY
from hpc.settings.compose import SearchSettings
from skin_gan.errors import SkinGanError, cause
from skin_gan.folders import COMPLETED, DIVERGED, FAILED, PRUNED, RunFolder, TrialFolder
from skin_gan.io import append_jsonl, locked, read_jsonl

# ASHA ignores the controller that Tune passes to its methods.
NO_CONTROLLER: Any = None
OBJECTS = 100 * 2**20  # bytes of Ray's store of objects, on each node


def search(plan: Plan, label: str, slots: int, nodes: int, meeting: Meeting, temporary: str) -> None:
    """Bring every trial of the class to its end, `slots` at a time on each of the nodes.

    Raises SkinGanError naming the trials that failed.
    """
    folders = {spec.index: folder for spec, folder in plan.trials(label)}
    rungs = Rungs(plan.experiment.search, plan.run.trials / label / "decisions.jsonl", folders)
    todo = [index for index, folder in folders.items() if unfinished(folder.state(), rungs.last)]
    if not todo:
        return
    space = {"index": tune.grid_search(todo), "run": str(plan.run.path), "label": label}
    gpus = plan.experiment.profile.gpus_per_node
    address = own_address() if nodes > 1 else None
    per_trial = gpus // slots or gpus / slots  # Ray gives whole ones, or a part of one
    at_once = slots * nodes
    # Processes that train together cannot leave their group for another one.
    alone = plan.experiment.profile.devices_per_trial == 1
    with ray_cluster(slots, gpus, temporary, address), joined_by(nodes, meeting):
        tuner = tune.Tuner(
            tune.with_resources(Trial, {"cpu": 1, "gpu": per_trial}),
            param_space=space,
            tune_config=tune.TuneConfig(scheduler=rungs, reuse_actors=alone, max_concurrent_trials=at_once),
            run_config=tune.RunConfig(
                name=label,
                storage_path=temporary,
                stop=lambda _, result: not math.isfinite(result["kid"]) or result["ended"],
                failure_config=tune.FailureConfig(max_failures=2),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        )
        with saving_trials(folders.values()):
            results = tuner.fit()
    for error in results.errors:
        print(error, file=sys.stderr)
    report_failures(folders)


@contextmanager
def saving_trials(folders: Iterable[TrialFolder], seconds: float = 3.0) -> Iterator[None]:
    """A search that is interrupted lets the trials of this node save before Ray kills them.

    Sessions take SIGUSR2 for Slurm's warning; all else in this process's group ignores it.
    """
    try:
        yield
    except KeyboardInterrupt:
        asked = time.time()
        trained = [folder.last for folder in folders if locked(folder.lock)]
        os.killpg(os.getpgrp(), signal.SIGUSR2)
        while time.time() < asked + seconds and not all(saved_since(asked, last) for last in trained):
            time.sleep(0.05)
        raise


def saved_since(moment: float, path: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= moment


def report_failures(folders: dict[int, TrialFolder]) -> None:
    """Mark trials that did not end, which Ray gave up, as failed; raise if there are any."""
    failed = []
    for folder in folders.values():
        state = folder.state()
        if state["state"] not in (COMPLETED, PRUNED, DIVERGED, FAILED):
            state = folder.update(state=FAILED, reason="its process died repeatedly; see the job's log")
        if state["state"] == FAILED:
            failed.append(f"{folder.path.name}: {state['reason']}")
    if failed:
        raise SkinGanError(f"{len(failed)} trials failed: " + "; ".join(failed))


def rung_at(rungs: list[float], kimg: float) -> int:
    """The place, from 0, of the last rung that a training of so many kimg has reached; -1 before the first.

    A kimg that differs from a rung only by the rounding of its last digits has reached it.
    """
    return sum(rung <= kimg or math.isclose(rung, kimg) for rung in rungs) - 1


class Rungs(ASHAScheduler):
    """Asynchronous successive halving (Li 2020) that writes each decision down, and can be told them again.

    With scheduler `none` it only ends trials at the last rung.
    """

    def __init__(self, s: SearchSettings, path: Path, folders: dict[int, TrialFolder]) -> None:
        self.rungs, self.last, self.halving = s.rungs, s.rungs[-1], s.scheduler == "asha" and len(s.rungs) > 1
        self.factor = s.rungs[1] / s.rungs[0] if len(s.rungs) > 1 else 2.0
        # Ray's milestones are the powers of the factor from 1 to max_t.
        limits: dict[str, Any] = {"grace_period": 1, "max_t": self.factor ** (len(s.rungs) - 0.5)}
        super().__init__(time_attr="time", reduction_factor=self.factor, **limits)
        self.path, self.folders = path, folders
        self.set_search_properties("kid", "min")
        self.replay()

    def replay(self) -> None:
        """Take every recorded result in its order; trials that it stops are marked as pruned."""
        known: dict[int, Any] = {}
        for row in read_jsonl(self.path):
            index = row["index"]
            if index not in known:
                known[index] = SimpleNamespace(trial_id=f"recorded-{index}")
                self.on_trial_add(NO_CONTROLLER, known[index])
            result = {"kimg": row["kimg"], "kid": row["kid"] if row["kid"] is not None else WORST}
            if self.decide(known[index], result) == self.STOP and index in self.folders:
                self.prune(self.folders[index], result)
        self.recorded = {(row["index"], row["kimg"]) for row in read_jsonl(self.path)}

    def decide(self, trial: Any, result: dict[str, Any]) -> str:
        rung = rung_at(self.rungs, result["kimg"])
        if not self.halving or rung == len(self.rungs) - 1:
            return self.CONTINUE  # at the last rung the trial ends itself
        # Halfway between two of Ray's milestones: its logarithms and powers may round as they like.
        timed = {**result, "time": self.factor ** (rung + 0.5)}
        return super().on_trial_result(NO_CONTROLLER, trial, timed)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        index, kimg, kid = trial.config["index"], result["kimg"], result["kid"]
        if result["failed"]:
            return self.CONTINUE  # not a measurement: a retry makes that
        if (index, kimg) in self.recorded:
            return self.CONTINUE  # told before a restart, and allowed to go on
        append_jsonl(self.path, {"index": index, "kimg": kimg, "kid": kid if math.isfinite(kid) else None})
        decision = self.decide(trial, result)
        if decision == self.STOP:
            self.prune(self.folders[index], result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Its last result has been taken by on_trial_result already."""

    def prune(self, folder: TrialFolder, result: dict[str, Any]) -> None:
        folder.update(
            state=PRUNED,
            reason=f"KID x1000 of {result['kid']:.1f} at {result['kimg']:g} kimg is not among the best "
            f"1/{self.factor:g} so far",
        )


class Trial(tune.Trainable):
    """One trial at a time; the process is reused for others."""

    def setup(self, config: dict[str, Any]) -> None:
        plan = reopen(RunFolder(Path(config["run"])))
        self.runner = Runner(plan, config["label"], plan.experiment.profile.devices_per_trial)
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        self.config = config
        self.runner.open(config["index"])
        return True

    def step(self) -> dict[str, Any]:
        return self.runner.step()

    def cleanup(self) -> None:
        self.runner.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the session keeps its own state in the trial's folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: the session finds its state in the trial's folder."""


def start_ray(**options: Any) -> None:
    """`ray.init`, or exit with NO_RAY: on a busy machine its processes may need longer than it waits."""
    try:
        ray.init(**options)
    except Exception:
        traceback.print_exc()
        sys.exit(NO_RAY)


@contextmanager
def ray_cluster(slots: int, gpus: int, temporary: str, address: str | None) -> Iterator[None]:
    """A Ray of this job's own, for `slots` trials at a time. Its environment is made by `hpc.jobs.task`.

    Other nodes reach it at the address, if there is one.
    """
    try:
        start_ray(
            address="local", num_cpus=slots, num_gpus=gpus, object_store_memory=OBJECTS,
            include_dashboard=False, log_to_driver=True, configure_logging=False,
            _temp_dir=folder_in(temporary), _node_ip_address=address,
        )  # fmt: skip
        yield
    finally:
        ray.shutdown()


def folder_in(temporary: str) -> str:
    """Ray's own folder, inside the closed one: it opens to everybody the one that it is given."""
    return f"{temporary}/ray"


@contextmanager
def joined_by(nodes: int, meeting: Meeting) -> Iterator[None]:
    """Let the job's other nodes join this Ray. Trials start without them, and go there when they have."""
    if nodes > 1:
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
        meeting.announce(Head(ray.get_runtime_context().gcs_address, token))
    try:
        yield
    finally:
        meeting.forget()  # before Ray ends, lest another node takes that for a fault


def join(run: RunFolder, address: str, slots: int, temporary: str) -> None:
    """Be a node of the Ray at the address, until this process is ended."""
    gpus = reopen(run).experiment.profile.gpus_per_node
    options = {
        "address": address, "num-cpus": slots, "num-gpus": gpus, "object-store-memory": OBJECTS,
        "temp-dir": folder_in(temporary), "dashboard-agent-listen-port": 0, "log-color": "false",
    }  # fmt: skip
    signal.signal(signal.SIGINT, lambda *_: sys.exit(128 + signal.SIGINT))  # which it would call an error
    sys.argv = ["ray", "start", "--block", *(f"--{name}={value}" for name, value in options.items())]
    (command,) = entry_points(group="console_scripts", name="ray")
    command.load()()  # in this process, which ends with the job


def die_with_parent(temporary: str) -> None:
    """End this process when the job that started it is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        shutil.rmtree(temporary, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(15.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> int:
    temporary = arguments[-1]
    # Slurm warns every process of a job: the one that started this one acts on it, Ray's inherit this.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    die_with_parent(temporary)
    try:
        if arguments[0] == "join":
            _, run, address, slots, _ = arguments
            join(RunFolder(Path(run)), address, int(slots), temporary)
        else:
            run, label, slots, nodes, meeting, _ = arguments
            plan = reopen(RunFolder(Path(run)))
            search(plan, label, int(slots), int(nodes), Meeting(Path(meeting)), temporary)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as e:
        traceback.print_exc()
        with suppress(OSError):  # somebody has swept /tmp: the search is started again
            Path(temporary, "error").write_text(cause(e))  # for the job's record
        return 1
    return 0


if __name__ == "__main__":
    # The module by its name, not as __main__: Ray's workers then import Trial instead of unpickling it.
    from hpc.search.ray_tune import main as named_main

    sys.exit(named_main(sys.argv[1:]))
