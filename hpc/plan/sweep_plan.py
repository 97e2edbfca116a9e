"""Plans a sweep: its stages, jobs, trials, cost and folders. Nothing is written or started here."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.plan.ablation import arm_tasks, classifier_of, combined_tasks, sample_tasks, without_whole
from hpc.plan.precision import settled
from hpc.plan.settle import settle
from hpc.settings import compose
from hpc.settings.ablation import check_balance
from hpc.settings.compose import Experiment, SearchSettings
from hpc.settings.space import RANDOM, STARTUP, adaptive, distributions, draw, with_values
from skin_gan.ablation.classifiers import CLASSIFIERS
from skin_gan.config import AUTO, SCHEMA, TrialSettings, TrialSpec, formerly
from skin_gan.cores import cores
from skin_gan.data.splits import N_FOLDS, SEARCHED
from skin_gan.data.store import ALL, SOURCE, Store
from skin_gan.errors import SkinGanError
from skin_gan.folders import ALARMED, COMPLETED, DIVERGED, PRUNED, RunFolder, TrialFolder
from skin_gan.identity import content_hash, differing
from skin_gan.io import read_json, read_jsonl, size_of

PREPARE, PRETRAIN, SEARCH, CONFIRM = "prepare", "pretrain", "search", "confirm"
SELECT, FINAL = "select", "final"
FOLDS, GENERATE, ABLATE, COMBINE, REPORT = "folds", "generate", "ablate", "combine", "report"
AFTER_SELECTION = (FOLDS, GENERATE, ABLATE, COMBINE, REPORT)
STAGES = (PREPARE, PRETRAIN, SEARCH, CONFIRM, SELECT, FINAL, *AFTER_SELECTION)
BEFORE_SELECTION = (PREPARE, PRETRAIN, SEARCH)


@dataclass(frozen=True)
class Job:
    """One unit of submission."""

    stage: str
    label: str = ""  # the part of the stage: in a search the lesion class
    kimg: float = 0.0  # expected training, thousands of images
    index: int | None = None  # the job's only trial (backend=array)

    @property
    def name(self) -> str:
        """The job's name, such as search-df or search-df-0001."""
        words = [self.stage, self.label, "" if self.index is None else f"{self.index:04d}"]
        return "-".join(filter(None, words))


def class_of(name: str) -> str:
    """The class of a job by its name, such as search-df-0001 or generate-df-fold-0; "" if it has none."""
    stage, _, rest = name.partition("-")
    of_class = stage in (SEARCH, CONFIRM, FINAL, FOLDS, GENERATE)
    return re.sub(r"-(\d{4}|fold-\d+|seed-\d+)$", "", rest) if of_class else ""


def fold_of(job: Job) -> int:
    """The fold of a pretraining job."""
    return int(job.label.removeprefix("fold-"))


@dataclass(frozen=True)
class Stage:
    """Jobs that may run side by side once the stages in `after` have ended."""

    name: str
    jobs: tuple[Job, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Pretraining:
    """A training on the images of all classes."""

    spec: TrialSpec
    kimg: float

    @property
    def id(self) -> str:
        """Identity of the final networks."""
        return content_hash([self.spec.id, self.kimg])

    def folder(self, run: RunFolder) -> TrialFolder:
        return RunFolder(run.path / PRETRAIN).trial(ALL, 0, self.spec.id)

    def networks(self, run: RunFolder) -> Path:
        """The file of the final networks; another length has another file."""
        return self.folder(run).path / f"networks-{self.id}.pt"


@dataclass(frozen=True)
class Plan:
    """A whole sweep: its settings, folder and stages in order."""

    experiment: Experiment
    data: str  # fingerprint
    run: RunFolder
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()  # remarks on settings that do not apply
    _trial_cache: dict[str, tuple[int, list[tuple[TrialSpec, TrialFolder]]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # by class, with the size of the file of proposals that was read

    def trials(self, label: str) -> list[tuple[TrialSpec, TrialFolder]]:
        """The class's trials in order, each with its folder: with an adaptive sampler those known so far."""
        e, path = settled(self.run, self.experiment), proposals(self.run, label)
        size = size_of(path) if adaptive(e.search.sampler) else 0
        if label not in self._trial_cache or self._trial_cache[label][0] != size:
            # Trials keep the ids of the schema under which the folder was begun.
            begun = self.run.path.name.rpartition("-")[2]
            schema = 1 if begun == run_identity(self.experiment, self.data, 1) else SCHEMA
            proposed = {row["index"]: row["values"] for row in (read_jsonl(path) if size else [])}
            specs = trial_specs(e, self.data, label, schema, proposed)
            found = [(spec, self.run.trial(label, spec.index, spec.id)) for spec in specs]
            if e.trial.train.precision == AUTO:  # not yet what will be trained
                return found
            self._trial_cache[label] = size, found
        return self._trial_cache[label][1]

    @cached_property
    def proposed_later(self) -> int:
        """The number of trials, of all classes, whose settings depend on what others will show."""
        s = self.experiment.search
        if not adaptive(s.sampler):
            return 0
        return sum(s.trials - len(self.trials(label)) for label in self.experiment.classes)

    def pretraining(self, fold: int) -> Pretraining:
        """The pretraining from which trials of this fold start."""
        return pretraining(settled(self.run, self.experiment), self.data, fold)

    def source(self, spec: TrialSpec) -> Path | None:
        """The file of the networks from which a trial starts; None: it starts from fresh ones."""
        if not spec.start:
            return None
        named = self.experiment.pretrain.source
        return Path(named) if named else self.pretraining(spec.fold).networks(self.run)

    def trials_of(self, job: Job) -> list[tuple[TrialSpec, TrialFolder]]:
        """The known trials of a search job."""
        trials = self.trials(job.label)
        return trials if job.index is None else trials[job.index : job.index + 1]

    def all_known(self, job: Job) -> bool:
        """Whether all trials of a search job are known."""
        last = self.experiment.search.trials - 1 if job.index is None else job.index
        return len(self.trials(job.label)) > last

    @cached_property
    def source_stamps(self) -> list[str]:
        """Texts that change when external images do; read once."""
        a = self.experiment.ablate
        if not a.sources and not a.external:
            return []
        from hpc.plan.sample_sources import source_stamps  # opens images, which planning itself does not

        return source_stamps(a)

    @property
    def kimg(self) -> float:
        return sum(job.kimg for stage in self.stages for job in stage.jobs)


def make_plan(e: Experiment, data: Store) -> Plan:
    """The plan of experiment `e` on `data`. SkinGanError if they do not fit, such as for an unknown class."""
    unknown = [label for label in e.classes if label not in data.classes]
    if unknown:
        raise SkinGanError(f"unknown class {', '.join(unknown)}: {data.name} has {', '.join(data.classes)}")
    labels = [label for label in data.classes if not e.classes or label in e.classes]
    check_balance(e.ablate, labels)
    a, notes = e.ablate, []
    if a.by_source and a.classifiers:
        a = dataclasses.replace(a, folds=[*(f for f in a.folds if f < N_FOLDS), *source_folds(data)])
    if a.sources:
        from hpc.plan.sample_sources import check_sources

        notes = check_sources(a, data, labels, e.trial.model.size)
    if a.external and a.classifiers:
        from hpc.plan.sample_sources import check_external

        check_external(a, data, e.trial.model.size)
    if len(labels) < len(data.classes):
        a, left_out = without_whole(a)
        notes += [f"left out: the arm {arm}, which needs generators of all classes" for arm in left_out]
    e = dataclasses.replace(e, classes=labels, ablate=a)
    e, run, settled = settle(e, data.fingerprint, lambda e: run_folder(e, data))
    check_processes(e)
    return Plan(e, data.fingerprint, run, stages_of(e), (*settled, *notes))


def source_folds(data: Store) -> list[int]:
    """The numbers of the folds that hold out a source each. SkinGanError if the data has fewer than two."""
    found = data.sources if data.path.exists() else []
    if len(found) < 2:
        raise SkinGanError(
            f"ablate.by_source=true: {data.name} has {', '.join(found) or 'nothing'} in its column {SOURCE}: "
            "expected at least two sources, to train on one and to test on another"
        )
    return [N_FOLDS + i for i in range(len(found))]


def stages_of(e: Experiment) -> tuple[Stage, ...]:
    """The stages of an experiment with resolved classes, in order."""
    chain: list[tuple[str, list[Job]]] = [
        (PREPARE, [Job(PREPARE)]),
        (PRETRAIN, [Job(PRETRAIN, f"fold-{fold}", e.pretrain.kimg) for fold in pretraining_folds(e)]),
        (SEARCH, search_jobs(e)),
        (CONFIRM, confirm_jobs(e)),
        (SELECT, [Job(SELECT)]),
    ]
    if e.final.kimg:
        chain.append((FINAL, [Job(FINAL, label, e.final.kimg) for label in e.classes]))
    if e.ablate.classifiers:
        chain += ablation_stages(e)
    chain = [(name, jobs) for name, jobs in chain if jobs]
    after = [(), *((name,) for name, _ in chain)]
    return tuple(Stage(name, tuple(jobs), before) for (name, jobs), before in zip(chain, after, strict=False))


def ablation_stages(e: Experiment) -> list[tuple[str, list[Job]]]:
    """The stages from retraining generators for other folds, if there are any, to the report."""
    a = e.ablate
    others = [f for f in a.folds if f != e.fold]
    kimg = e.search.rungs[-1] * len(others)
    folds = [(FOLDS, [Job(FOLDS, label, kimg) for label in e.classes])] if others else []
    return [
        *folds,
        (GENERATE, [Job(GENERATE, task.label) for task in sample_tasks(a, e.classes)]),
        (ABLATE, [Job(ABLATE, task.label) for task in arm_tasks(a)]),
        (COMBINE, [Job(COMBINE, task.label) for task in combined_tasks(a)]),
        (REPORT, [Job(REPORT)]),
    ]


def jobs_before(plan: Plan, stage: str) -> list[Job]:
    """The jobs, from the selection on, whose results the stage reads."""
    before = itertools.takewhile(lambda other: other.name != stage, plan.stages)
    return [job for other in before if other.name not in BEFORE_SELECTION for job in other.jobs]


def pretraining_folds(e: Experiment) -> list[int]:
    """The folds that need a pretraining: all in which generators are trained."""
    if not e.pretrain.kimg:
        return []
    return list(dict.fromkeys([e.fold, *(e.ablate.folds if e.ablate.classifiers else [])]))


def pretraining(e: Experiment, data: str, fold: int) -> Pretraining:
    """The pretraining of a fold, with the experiment's settings: searched settings are not drawn for it."""
    p = e.pretrain
    fade = [p.class_from, p.class_until] if p.conditional else []
    return Pretraining(TrialSpec(ALL, 0, seed_of(e, ALL, 0), fold, data, e.trial, class_fade=fade), p.kimg)


def search_jobs(e: Experiment) -> list[Job]:
    """One job per class (backend=ray) or per trial (backend=array)."""
    if e.backend == "ray":
        return [Job(SEARCH, label, expected_kimg(e.search)) for label in e.classes]
    kimg, trials = e.search.rungs[-1], range(e.search.trials)
    return [Job(SEARCH, label, kimg, index) for label in e.classes for index in trials]


def slots(e: Experiment) -> int:
    """The number of trials that this machine, or a job on this cluster, trains at a time."""
    p = e.profile
    available = p.cpus_per_task if p.kind == "slurm" else cores()
    devices = p.gpus_per_node or available // e.operations.threads
    return p.slots or max(1, devices // p.devices_per_trial)


def in_rounds(e: Experiment, stage: str) -> bool:
    """Whether jobs of the stage wait for others of it, from whose trials a sampler proposes theirs."""
    return stage == SEARCH and e.backend == "array" and adaptive(e.search.sampler)


def rounds(e: Experiment, jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs of one stage in groups that run one after another; there is one group for most stages."""

    def number(job: Job) -> int:
        if job.index is None or not in_rounds(e, job.stage):
            return 0
        return max(0, (job.index - e.search.startup) // e.search.round + 1)

    return [list(group) for _, group in itertools.groupby(sorted(jobs, key=number), key=number)]


@dataclass(frozen=True)
class ConfirmTask:
    """The trainings of a class with one new seed, one of each setting: the work of one job of the stage."""

    lesion_class: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.lesion_class}-seed-{self.seed}"


def confirm_tasks(e: Experiment) -> list[ConfirmTask]:
    """The tasks of the stage confirm."""
    return [ConfirmTask(label, seed) for label in e.classes for seed in range(e.confirm.seeds)]


def confirm_jobs(e: Experiment) -> list[Job]:
    """A job per class and seed. Equal settings are trained once, so the cost is at most this."""
    settings = 1 + min(e.confirm.top, e.search.trials - 1)
    if e.confirm.shared and e.search.trials > 1:
        settings += len(e.classes) - 1
    return [Job(CONFIRM, task.label, settings * e.search.rungs[-1]) for task in confirm_tasks(e)]


def search_half(e: Experiment) -> int | None:
    """The half of the validation lesions that the search is judged on; None: all of them."""
    return SEARCHED if e.confirm.seeds else None


def confirm_run(run: RunFolder) -> RunFolder:
    """The folder of the trainings that confirm, laid out like a sweep's."""
    return RunFolder(run.path / CONFIRM)


def nodes_of(e: Experiment, stage: str) -> int:
    """The number of nodes of one job of the stage."""
    return e.profile.nodes if stage in (SEARCH, FINAL) else 1


def processes(e: Experiment, stage: str) -> int:
    """The number of processes per node that train together in a job: one per GPU, or per `threads` cores."""
    p = e.profile
    if stage != FINAL:
        return p.devices_per_trial if stage == SEARCH and e.backend == "array" else 1
    if p.gpus_per_node:
        return p.gpus_per_node
    return max(1, p.cpus_per_task // e.operations.threads) if p.kind == "slurm" else 1


def spares_gpu(e: Experiment, job: Job) -> bool:
    """Whether a job leaves the profile's GPUs to others: tables, drawing and linear heads need none."""
    if not e.profile.gpus_per_node:
        return False
    if job.stage in (ABLATE, COMBINE):
        return CLASSIFIERS[classifier_of(e.ablate, job.label)].network == "head"
    return job.stage in (SELECT, GENERATE, REPORT)


def check_processes(e: Experiment) -> None:
    """SkinGanError if processes that train together cannot share batches equally, or lack a core each."""
    sizes = [e.trial.train.batch]
    if batch := distributions(e.search.space).get("train.batch"):
        sizes += map(int, batch.typical())
    together = {"a trial": (e.profile.nodes if e.backend == "array" else 1, e.profile.devices_per_trial)}
    if e.final.kimg:
        together["a final training"] = e.profile.nodes, processes(e, FINAL)
        cores = e.profile.cpus_per_task
        if e.profile.kind == "slurm" and cores < processes(e, FINAL):
            raise SkinGanError(
                f"profile.cpus_per_task={cores}: a final training has {processes(e, FINAL)} processes on "
                "each node, one per GPU; expected at least a core for each"
            )
    for what, (nodes, each) in together.items():
        if math.gcd(*sizes) % (nodes * each):
            raise SkinGanError(
                f"{what} on {nodes} nodes with {each} processes each cannot share batches of "
                f"{', '.join(map(str, sizes))} equally: change profile.nodes, devices_per_trial, "
                "gpus_per_node or cpus_per_task"
            )


def reopen(run: RunFolder) -> Plan:
    """The plan of a sweep that was launched before, read from its folder."""
    e = compose.load(run.settings)
    match read_json(run.provenance):
        case {"data": {"fingerprint": str(data)}}:
            return Plan(e, data, run, stages_of(e))
    raise SkinGanError(
        f"{run.path} is not a sweep's folder: it has no {run.provenance.name} that names its data; launch "
        "the sweep again to write one"
    )


def unfinished(state: Mapping[str, Any], e: Experiment) -> bool:
    """Whether a trial of the search in this state has work left before the last rung.

    Failed trials are retried. Diverged ones are not, since they would diverge again, nor are pruned ones.
    Those that an alarm stopped go on once it is no longer to end trials.
    """
    if state["state"] == COMPLETED:
        return state.get("kimg", 0.0) < e.search.rungs[-1]
    return state["state"] not in (PRUNED, DIVERGED, *([ALARMED] if e.evaluate.stop_on_alarm else []))


def run_folder(e: Experiment, data: Store) -> RunFolder:
    """The sweep's folder, named by what determines its trials, but not their number, length or machine.

    A folder that was begun under the previous schema is reused.
    """
    now, before = (
        RunFolder(Path(e.results) / e.sweep / f"{data.name}-{run_identity(e, data.fingerprint, schema)}")
        for schema in (SCHEMA, 1)
    )
    return before if before.settings.exists() and not now.settings.exists() else now


def run_identity(e: Experiment, data: str, schema: int) -> str:
    """Hash of what determines the trials of `e` on the data with this fingerprint."""
    trial = differing(e.trial) if schema == SCHEMA else formerly(e.trial)
    decisive = {
        "schema": schema, "data": data, "trial": trial, "space": e.search.space,
        "baseline": e.search.baseline, "seed": e.seed, "fold": e.fold,
    }  # fmt: skip
    p = e.pretrain
    own = [p.kimg, p.class_from, p.class_until] if p.conditional and p.kimg else p.kimg
    if pretrained := p.content or own:
        decisive["pretrain"] = pretrained
    if e.search.sampler != RANDOM:
        decisive["sampler"] = e.search.sampler
    if (half := search_half(e)) is not None:
        decisive["half"] = half
    return content_hash(decisive, length=8)


def trial_specs(
    e: Experiment,
    data: str,
    label: str,
    schema: int = SCHEMA,
    proposed: Mapping[int, Mapping[str, Any]] | None = None,
) -> list[TrialSpec]:
    """Trials 0 to n-1 of a class, or with an adaptive sampler those of them that are known.

    Trial i depends on (seed, class, i) only, so a larger n adds trials, or is in `proposed`: the recorded
    values of the searched settings by index.
    """
    specs: list[TrialSpec] = []
    start = pretraining(e, data, e.fold).id if e.pretrain.kimg else e.pretrain.content
    for index in range(e.search.trials):
        settings = known_settings(e, label, index, proposed or {})
        if settings is None:
            break
        seed = seed_of(e, label, index)
        specs.append(TrialSpec(label, index, seed, e.fold, data, settings, schema, start))
    return specs


def known_settings(
    e: Experiment, label: str, index: int, proposed: Mapping[int, Mapping[str, Any]]
) -> TrialSettings | None:
    """The settings of trial `index`; None while an adaptive sampler has yet to propose them."""
    s = e.search
    if index in proposed:
        return with_values(e.trial, dict(proposed[index]))
    if s.baseline and index == 0:
        return e.trial
    learns = adaptive(s.sampler)
    if learns and index >= s.startup:
        return None
    return draw(s.space, e.trial, e.seed, label, index, STARTUP if learns else s.sampler)


def proposals(run: RunFolder, label: str) -> Path:
    """The file of the class's proposals, a line per trial: see `hpc.search.proposals`."""
    return run.trials / label / "proposals.jsonl"


def seed_of(e: Experiment, label: str, index: int, *more: Any) -> int:
    """The seed of a trial's training; `more`: what tells another training of the same settings from it."""
    return int(content_hash([e.seed, label, index, *more], length=8), 16) % 2**31


def survivors(s: SearchSettings) -> list[float]:
    """The number of a class's trials that are expected to reach each rung.

    Successive halving keeps one trial in `factor` at each rung (Li 2020, ASHA). Asynchronous decisions keep
    somewhat more, so these are lower estimates.
    """
    if s.scheduler == "none" or len(s.rungs) == 1:
        return [float(s.trials)] * len(s.rungs)
    alive = [float(s.trials)]
    for _ in s.rungs[1:]:
        alive.append(max(1.0, alive[-1] * s.rungs[0] / s.rungs[1]))
    return alive


def expected_kimg(s: SearchSettings) -> float:
    """Expected training of one class, thousands of images."""
    return sum(n * (b - a) for n, a, b in zip(survivors(s), [0.0, *s.rungs], s.rungs, strict=False))
