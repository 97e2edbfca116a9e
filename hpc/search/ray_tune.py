"""Ray Tune over the trials of one class, run by `hpc.jobs.task`.

`python -m hpc.search.ray_tune RUN LABEL SLOTS NODES MEETING FOLDER` starts Ray and searches.
`python -m hpc.search.ray_tune join RUN ADDRESS SLOTS FOLDER` joins another node of the job to it.

The trials and their states are on disk. Ray gets the unfinished trials, then those that an adaptive sampler
proposes as slots become free, and a scheduler that has replayed all recorded results in order. So a job that
was killed, preempted or extended resumes as if it had never stopped. No state of Ray outlives its process.
The only module that imports Ray.
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
from ray.tune.search import Searcher

from hpc.plan.sweep_plan import Plan, reopen, unfinished
from hpc.search.proposals import propose_until
from hpc.search.rendezvous import Head, Meeting, own_address
from hpc.search.runner import WORST, Runner
from hpc.search.supervisor import NO_RAY
from hpc.settings.compose import Experiment, SearchSettings
from skin_gan.errors import SkinGanError, cause
from skin_gan.folders import ALARMED, COMPLETED, DIVERGED, FAILED, PRUNED, STOPPED, RunFolder, TrialFolder
from skin_gan.io import append_jsonl, locked, read_jsonl

NO_CONTROLLER: Any = None  # ASHA ignores the controller that Tune passes to its methods
OBJECTS = 100 * 2**20  # bytes of Ray's object store on each node


def search(plan: Plan, label: str, slots: int, nodes: int, meeting: Meeting, temporary: str) -> None:
    """Run every unfinished trial of the class to its end, `slots` at a time on each node.

    Raises SkinGanError naming the trials that failed.
    """
    folders = {spec.index: folder for spec, folder in plan.trials(label)}
    rungs = Rungs(plan.experiment.search, plan.run.trials / label / "decisions.jsonl", folders)
    if not (todo := left_to_do(plan.experiment, folders)):
        return
    gpus = plan.experiment.profile.gpus_per_node
    address = own_address() if nodes > 1 else None
    per_trial = gpus // slots or gpus / slots  # Ray allots whole GPUs, or a fraction of one
    at_once = slots * nodes
    # A process that trains together with others cannot leave their group for another trial.
    reuse = plan.experiment.profile.devices_per_trial == 1
    with ray_cluster(slots, gpus, temporary, address), joined_by(nodes, meeting):
        tuner = tune.Tuner(
            tune.with_resources(Trial, {"cpu": 1, "gpu": per_trial}),
            param_space={"run": str(plan.run.path), "label": label},
            tune_config=tune.TuneConfig(
                search_alg=Upcoming(plan, label, todo, folders),
                num_samples=len(todo),
                scheduler=rungs,
                reuse_actors=reuse,
                max_concurrent_trials=at_once,
            ),
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


def left_to_do(e: Experiment, folders: dict[int, TrialFolder]) -> list[int]:
    """Indices of the trials to run, in order: those known that are unfinished, then those to be proposed."""
    known = [index for index, folder in folders.items() if unfinished(folder.state(), e)]
    return [*known, *range(len(folders), e.search.trials)]


@contextmanager
def saving_trials(folders: Iterable[TrialFolder], seconds: float = 3.0) -> Iterator[None]:
    """On KeyboardInterrupt, let this node's trials save for at most `seconds` before Ray kills them.

    Sessions save at SIGUSR2, which is Slurm's warning; all other processes of the group ignore it.
    """
    try:
        yield
    except KeyboardInterrupt:
        asked = time.time()
        trained = [folder.last for folder in folders if locked(folder.lock)]
        os.killpg(os.getpgrp(), signal.SIGUSR2)
        while time.time() < asked + seconds:
            if all(last.exists() and last.stat().st_mtime >= asked for last in trained):
                break
            time.sleep(0.05)
        raise


def report_failures(folders: dict[int, TrialFolder]) -> None:
    """Mark trials that Ray gave up as failed; SkinGanError if any trial has failed."""
    failed = []
    for folder in folders.values():
        state = folder.state()
        if state["state"] not in (COMPLETED, PRUNED, ALARMED, DIVERGED, FAILED, STOPPED):
            state = folder.update(state=FAILED, reason="its process died repeatedly; see the job's log")
        if state["state"] == FAILED:
            failed.append(f"{folder.path.name}: {state['reason']}")
    if failed:
        raise SkinGanError(f"{len(failed)} trials failed: " + "; ".join(failed))


def rung_at(rungs: list[float], kimg: float) -> int:
    """The index of the last rung that `kimg` has reached, up to rounding; -1 before the first."""
    return sum(rung <= kimg or math.isclose(rung, kimg) for rung in rungs) - 1


class Rungs(ASHAScheduler):
    """Asynchronous successive halving (Li 2020) that records each result on disk and can replay them.

    With scheduler `none` every trial runs to the last rung.
    """

    def __init__(self, s: SearchSettings, path: Path, folders: dict[int, TrialFolder]) -> None:
        self.rungs, self.last, self.halving = s.rungs, s.rungs[-1], s.scheduler == "asha" and len(s.rungs) > 1
        self.factor = s.rungs[1] / s.rungs[0] if len(s.rungs) > 1 else 2.0
        # Ray's milestones are the powers of the factor up to max_t.
        limits: dict[str, Any] = {"grace_period": 1, "max_t": self.factor ** (len(s.rungs) - 0.5)}
        super().__init__(time_attr="time", reduction_factor=self.factor, **limits)
        self.path, self.folders = path, folders
        self.set_search_properties("kid", "min")
        self.replay()

    def replay(self) -> None:
        """Feed every recorded result to ASHA in order; trials that it stops are marked as pruned."""
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
        """ASHA's decision on a result: CONTINUE or STOP."""
        rung = rung_at(self.rungs, result["kimg"])
        if not self.halving or rung == len(self.rungs) - 1:
            return self.CONTINUE  # at the last rung the trial ends itself
        # Halfway between two of Ray's milestones, so that rounding in its powers does not matter.
        timed = {**result, "time": self.factor ** (rung + 0.5)}
        return super().on_trial_result(NO_CONTROLLER, trial, timed)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Record a new result, and prune the trial if ASHA stops it."""
        index, kimg, kid = trial.config["index"], result["kimg"], result["kid"]
        if result["failed"] or result["alarmed"]:
            return self.CONTINUE  # no measurement; a retry, or training on, makes one
        if (index, kimg) in self.recorded:
            return self.CONTINUE  # replayed from before a restart, and not pruned then
        append_jsonl(self.path, {"index": index, "kimg": kimg, "kid": kid if math.isfinite(kid) else None})
        decision = self.decide(trial, result)
        if decision == self.STOP:
            self.prune(self.folders[index], result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Do nothing: on_trial_result has already received the last result."""

    def prune(self, folder: TrialFolder, result: dict[str, Any]) -> None:
        """Mark the trial as pruned, with the reason."""
        folder.update(
            state=PRUNED,
            reason=f"KID x1000 of {result['kid']:.1f} at {result['kimg']:g} kimg is not among the best "
            f"1/{self.factor:g} so far",
        )


class Upcoming(Searcher):
    """Gives Ray a trial whenever one can start; new ones are proposed then, from all results there are."""

    def __init__(self, plan: Plan, label: str, todo: list[int], folders: dict[int, TrialFolder]) -> None:
        """`todo`: indices of the trials in order; `folders` gets the folders of those that are proposed."""
        super().__init__()
        self.plan, self.label, self.todo, self.folders = plan, label, todo, folders

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        return True  # nothing here depends on Ray's metric or space

    def suggest(self, trial_id: str) -> dict[str, int]:
        index = self.todo.pop(0)
        propose_until(self.plan, self.label, index)
        self.folders[index] = self.plan.trials(self.label)[index][1]
        return {"index": index}

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """Do nothing: results are in the trials' folders."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: proposals are on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: Ray is never resumed."""


class Trial(tune.Trainable):
    """Ray's interface to a `Runner`; its process is reused for one trial after another."""

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
        """Do nothing: the session saves its state to the trial's folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: the session loads its state from the trial's folder."""


@contextmanager
def ray_cluster(slots: int, gpus: int, temporary: str, address: str | None) -> Iterator[None]:
    """Run a Ray of this job's own for `slots` trials at a time, in the environment of `ray_environment`.

    Other nodes reach it at `address`; None: there are no others.
    """
    try:
        try:
            ray.init(
                address="local", num_cpus=slots, num_gpus=gpus, object_store_memory=OBJECTS,
                include_dashboard=False, log_to_driver=True, configure_logging=False,
                _temp_dir=folder_in(temporary), _node_ip_address=address,
            )  # fmt: skip
        except Exception:  # on a busy machine Ray's processes may start too slowly
            traceback.print_exc()
            sys.exit(NO_RAY)
        yield
    finally:
        ray.shutdown()


def folder_in(temporary: str) -> str:
    """Ray's folder inside the private one: Ray makes its own folder readable to everybody."""
    return f"{temporary}/ray"


@contextmanager
def joined_by(nodes: int, meeting: Meeting) -> Iterator[None]:
    """Let the job's other nodes join this Ray. Trials start before they do, and use them afterwards."""
    if nodes > 1:
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
        meeting.announce(Head(ray.get_runtime_context().gcs_address, token))
    try:
        yield
    finally:
        meeting.forget()  # before Ray ends, so that the other nodes do not report a failure


def join(run: RunFolder, address: str, slots: int, temporary: str) -> None:
    """Join the Ray at the address as a node until this process is ended."""
    gpus = reopen(run).experiment.profile.gpus_per_node
    options = {
        "address": address, "num-cpus": slots, "num-gpus": gpus, "object-store-memory": OBJECTS,
        "temp-dir": folder_in(temporary), "dashboard-agent-listen-port": 0, "log-color": "false",
    }  # fmt: skip
    signal.signal(signal.SIGINT, lambda *_: sys.exit(128 + signal.SIGINT))  # Ray would report an error
    sys.argv = ["ray", "start", "--block", *(f"--{name}={value}" for name, value in options.items())]
    (command,) = entry_points(group="console_scripts", name="ray")
    command.load()()  # runs in this process, which ends with the job


def die_with_parent(temporary: str) -> None:
    """End this process when the job that started it has ended in any way."""
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
    # Slurm warns every process of a job, but only the parent of this one acts on it. Ray's processes inherit
    # this setting.
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
        with suppress(OSError):  # /tmp was cleaned: the job restarts the search
            Path(temporary, "error").write_text(cause(e))  # for the job record
        return 1
    return 0


if __name__ == "__main__":
    # Imported by name, not run as __main__, so that Ray's workers import Trial instead of unpickling it.
    from hpc.search.ray_tune import main as named_main

    sys.exit(named_main(sys.argv[1:]))
