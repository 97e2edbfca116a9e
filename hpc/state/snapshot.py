"""A sweep's folder as read at one instant. No torch.

A launch, each refresh of a display and each job that starts take one snapshot and pass it on, so that each
file is read once. Slurm's queue is read first: if a job ends in between, the snapshot has its last record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.plan import ablation
from hpc.plan.sweep_plan import (
    AFTER_SELECTION,
    CONFIRM,
    SEARCH,
    SELECT,
    Job,
    Plan,
    Stage,
    expected_kimg,
    jobs_before,
    stages_of,
)
from hpc.settings import compose
from hpc.settings.compose import Experiment
from hpc.state.outputs import BY_OUTPUT, outputs_exist
from skin_gan.errors import SkinGanError
from skin_gan.folders import (
    ALARMED,
    COMPLETED,
    DIVERGED,
    FAILED,
    PENDING,
    PRUNED,
    RUNNING,
    RunFolder,
    TrialFolder,
)
from skin_gan.generator import CARD
from skin_gan.identity import content_hash
from skin_gan.io import read_json

ENDED = (COMPLETED, PRUNED, ALARMED, DIVERGED, FAILED)
Record = Mapping[str, Any]  # jobs/NAME.json, see `hpc.state.records`
State = Mapping[str, Any]  # state.json of a trial with its "name"; "damaged" says why it could not be read


@dataclass(frozen=True)
class ClassProgress:
    """The trials of one class, in the order of their index."""

    label: str
    planned: int
    trials: tuple[State, ...]
    job: Record

    def count(self, *states: str) -> int:
        """The number of trials in these states."""
        return sum(t["state"] in states for t in self.trials)

    @cached_property
    def ended(self) -> set[int]:
        """Indices of the trials that have ended."""
        return {int(t["name"].partition("-")[0]) for t in self.trials if t["state"] in ENDED}

    @property
    def kimg(self) -> float:
        """Training done by all trials, thousands of images."""
        return sum(t.get("kimg", 0.0) for t in self.trials)

    @property
    def running(self) -> list[State]:
        return [t for t in self.trials if t["state"] == RUNNING]

    @property
    def best(self) -> State | None:
        """The trial with the lowest KID; None if none was evaluated."""
        measured = [t for t in self.trials if t.get("best_kid") is not None]
        return min(measured, key=lambda t: t["best_kid"], default=None)


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one instant."""

    run: RunFolder
    experiment: Experiment
    records: Mapping[str, Record]  # by the job's name
    trials: Mapping[str, Mapping[str, State]]  # by class, then by the folder's name in order
    outputs: frozenset[str] = frozenset()  # names of the jobs whose output files all exist
    sources: tuple[str, ...] = ()  # hashes of the generators of other sweeps, see `_sources`

    def record(self, job: Job) -> Record:
        """The job's record; empty if it never started."""
        return self.records.get(job.name, {})

    def state(self, label: str, folder: TrialFolder) -> State:
        """The state of a trial of the plan. SkinGanError if its file is damaged."""
        state = self.trials.get(label, {}).get(folder.path.name, {"state": PENDING})
        if "damaged" in state:
            raise SkinGanError(state["damaged"])
        return state

    @cached_property
    def classes(self) -> list[ClassProgress]:
        # A launch with fewer trials than an earlier one must not hide existing trials.
        return [
            ClassProgress(label, max(self.experiment.search.trials, len(states)), tuple(states.values()),
                          self.records.get(f"{SEARCH}-{label}", {}))
            for label, states in self.trials.items()
        ]  # fmt: skip

    @property
    def stage(self) -> str:
        """The first stage with unfinished jobs, or "done"."""
        return next((s.name for s in self.stages if any(not self.done(job) for job in s.jobs)), "done")

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        return stages_of(self.experiment)

    def done(self, job: Job) -> bool:
        """Whether the job has succeeded, perhaps on other inputs than now: see `hpc.state.completion`."""
        if job.stage == SEARCH and job.name not in self.records:  # another backend may have run the trials
            c = next(c for c in self.classes if c.label == job.label)
            return len(c.ended) >= c.planned if job.index is None else job.index in c.ended
        return self.record(job).get("state") == "done"

    @property
    def kimg(self) -> float:
        return sum(c.kimg for c in self.classes)

    @property
    def kimg_left(self) -> float:
        """Training still expected, thousands of images: successive halving prunes some open trials."""
        per_trial = expected_kimg(self.experiment.search) / self.experiment.search.trials
        left = 0.0
        for c in self.classes:
            open_trials = c.planned - c.count(*ENDED)
            left += max(0.0, open_trials * per_trial - sum(t.get("kimg", 0.0) for t in c.running))
        return left

    def marked(self, state: str, classes: Iterable[str]) -> Snapshot:
        """A copy in which the running trials of these classes have another state."""
        labels = set(classes)
        marked = {
            label: {k: {**t, "state": state} if t["state"] == RUNNING else t for k, t in trials.items()}
            for label, trials in self.trials.items()
            if label in labels
        }
        return replace(self, trials={**self.trials, **marked})


def snapshot(run: RunFolder, e: Experiment | None = None) -> Snapshot:
    """Read all job records and trial states of a sweep's folder, and its settings unless `e` gives them.

    SkinGanError if it is not a sweep's folder, or a record is damaged.
    """
    e = e or compose.load(run.settings)
    records = _records(run, (path.stem for path in run.jobs.glob("*.json")))
    trials = {label: _trials(run, label) for label in e.classes}
    return Snapshot(run, e, records, trials)


def of_plan(plan: Plan) -> Snapshot:
    """The snapshot for a launch: it has all that `complete` needs for every job of the plan."""
    jobs = [job for stage in plan.stages for job in stage.jobs]
    return _with_outputs(plan, jobs, snapshot(plan.run, plan.experiment))


def of_jobs(plan: Plan, jobs: Iterable[Job]) -> Snapshot:
    """A snapshot of only the files that `complete` needs for these jobs."""
    jobs = list(jobs)
    stages = {job.stage for job in jobs}
    names = {job.name for job in jobs if job.stage != SEARCH}
    names |= {job.name for stage in stages for job in jobs_before(plan, stage)}
    labels = {job.label for job in jobs if job.stage == SEARCH}
    if stages & {CONFIRM, SELECT}:
        labels |= set(plan.experiment.classes)
    trials = {label: _trials(plan.run, label) for label in sorted(labels)}
    return _with_outputs(plan, jobs, Snapshot(plan.run, plan.experiment, _records(plan.run, names), trials))


def _with_outputs(plan: Plan, jobs: list[Job], s: Snapshot) -> Snapshot:
    candidates = [job for job in jobs if job.stage in BY_OUTPUT or (job.stage != SEARCH and s.done(job))]
    outputs = frozenset(job.name for job in candidates if outputs_exist(plan, job, s.record(job)))
    after = any(job.stage in AFTER_SELECTION for job in jobs)
    return replace(s, outputs=outputs, sources=_sources(plan) if after else ())


def _records(run: RunFolder, names: Iterable[str]) -> dict[str, Record]:
    found = {name: read_json(run.jobs / f"{name}.json") for name in names}
    return {name: record for name, record in found.items() if record is not None}


def _trials(run: RunFolder, label: str) -> dict[str, State]:
    folders = sorted((run.trials / label).glob("[0-9]*-*"))
    return {folder.name: _state(folder) for folder in folders}


def _state(folder: Path) -> State:
    """A trial's state with its name. A damaged file is reported in it, not raised: other trials are shown."""
    try:
        state = TrialFolder(folder).state()
    except SkinGanError as e:
        state = {"state": PENDING, "damaged": str(e)}
    return {**state, "name": folder.name}


def _sources(plan: Plan) -> tuple[str, ...]:
    """Hashes of the cards of other sweeps' generators that the ablation uses; "" for a missing one."""
    a = plan.experiment.ablate
    sweeps = sorted(set(a.sources) - ablation.external_sources(a).keys())
    folders = [RunFolder(Path(a.sources[name])) for name in sweeps]
    cards = [folder.best(label) / CARD for folder in folders for label in plan.experiment.classes]
    return tuple(content_hash(card.read_text()) if card.exists() else "" for card in cards)
