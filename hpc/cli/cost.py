"""Estimates what is left of a sweep: device-hours, wall time, disk and files of each stage. No torch.

How fast the work is done is timed on this machine for ten seconds, if the sweep runs here; else it is read
from earlier sweeps on the same cluster; else it follows from the speed that the profile assumes. A device is
what one slot has: a GPU, its share of one, or operations.threads cores.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import mean, median

from hpc.plan import ablation
from hpc.plan.sweep_plan import (
    ABLATE,
    COMBINE,
    FINAL,
    FOLDS,
    GENERATE,
    PREPARE,
    PRETRAIN,
    SEARCH,
    SELECT,
    Job,
    Plan,
    Stage,
    expected_kimg,
    nodes_of,
    processes,
    slots,
    survivors,
    unfinished,
)
from hpc.settings import compose
from hpc.settings.compose import Experiment
from hpc.stages.calibrate import Speeds, side_by_side
from hpc.stages.pretrain import SHEETS
from hpc.state.completion import complete
from hpc.state.limits import GB
from hpc.state.snapshot import Snapshot, snapshot
from skin_gan.ablation.classifiers import CLASSIFIERS
from skin_gan.config import ModelSettings
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError
from skin_gan.folders import PENDING, RunFolder
from skin_gan.folders import SHEETS as KEPT

SECONDS = 10.0  # of the calibration, beside what starting it takes
TOGETHER = 4  # processes at most that are timed side by side, as the slots will work
SWEEPS, TRIALS = 20, 200  # the latest sweeps, and trials of each, whose speeds are read
# Where only a training speed (images/s) is assumed: rough guesses of what goes with it.
ASSUMED_START, ASSUMED_UPDATES = 15.0, {"head": 400.0, "cnn": 8.0, "resnet18": 1.0, "resnet50": 0.4}
RAY = 12.0  # seconds until Ray has started
FASTER = 4.0  # drawing images, compared with training on as many
SELECTING, REPORTING = 5.0, 45.0  # seconds
TRAINED_ON = 0.6  # share of a class's images that are training images
VIEWS = 4  # of a photograph, for a head's arm `strong`: as in skin_gan.ablation.frozen, which imports torch
PNG = 2.2  # bytes of a generated image's file per pixel
FEATURES = 6_000  # bytes of a real image's cached features
CODE_FILES, CODE_BYTES = 240, 3e6  # of the copy of the code
JOB_FILES, TRIAL_FILES, RUN_FILES, REPORT_FILES = 8, 7, 4, 40
RUN_BYTES, REPORT_BYTES, EVENTS = 150e3, 10e6, 100e3


@dataclass(frozen=True)
class Cost:
    """What a stage, or a sweep, still needs."""

    jobs: int = 0
    device_hours: float = 0.0
    wall_hours: float = 0.0  # without waiting in a queue
    bytes: float = 0.0
    files: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Estimate:
    """The cost of what is left, by stage, and where its speeds are from."""

    stages: dict[str, Cost]
    trial: Cost  # a whole trial, to the last rung
    source: str

    @property
    def total(self) -> Cost:
        return sum(self.stages.values(), Cost())


def estimate(
    plan: Plan, store: Store, s: Snapshot, before: Experiment | None, timed: bool
) -> Estimate | None:
    """The cost of the unfinished jobs; None if no speed is known.

    `before`: the settings of the sweep's last launch. `timed`: whether this machine may be timed.
    """
    todo = {stage.name: [j for j in stage.jobs if not complete(plan, j, s)] for stage in plan.stages}
    if not any(todo.values()):
        return Estimate({name: Cost() for name in todo}, Cost(), "nothing is left to do")
    v = speeds(plan, s, before, timed)
    if v is None:
        return None
    work = Work(plan, store, s, v)
    stages = {stage.name: work.of_stage(stage, todo[stage.name]) for stage in plan.stages}
    return Estimate(stages, work.trial(), v.source)


# Speeds


def speeds(plan: Plan, s: Snapshot, before: Experiment | None, timed: bool) -> Speeds | None:
    """Timed here, or of earlier sweeps on the same cluster, or assumed by the profile, in this order."""
    e = plan.experiment
    if timed and e.profile.kind == "local":
        return timed_here(e)
    if before and before.cluster == e.cluster and (known := speeds_of(s, e, "this sweep")):
        return known
    if known := of_other_sweeps(plan):
        return known
    if rate := e.profile.images_per_second:
        return replace(assumed(e, rate), source=f"assumed: profile.images_per_second={rate:g}")
    return None


def timed_here(e: Experiment) -> Speeds:
    """The mean of what processes time that work side by side, as the slots will."""
    wanted = {name: ablation.classifier_settings(name, p, e.trial.model.size)
              for name, p in e.ablate.classifiers.items()}  # fmt: skip
    together, began = min(slots(e), TOGETHER), time.time()
    found = side_by_side(together, e, wanted, SECONDS)
    took = time.time() - began
    numbers = ("images", "evaluation", "features", "start", "checkpoint")
    means = [mean(getattr(v, name) for v in found) for name in numbers]
    updates = {name: mean(v.updates[name] for v in found) for name in wanted}
    source = f"timed on this machine in {took:.0f} s: {means[0]:.3g} images/s per slot"
    return Speeds(**dict(zip(numbers, means, strict=True)), updates=updates, source=source)


def of_other_sweeps(plan: Plan) -> Speeds | None:
    """The speeds of the latest other sweep with the same model and batch on the same cluster."""
    e, files = plan.experiment, Path(plan.experiment.results).glob("*/*/sweep.yaml")
    others = sorted((p for p in files if p != plan.run.settings), key=lambda p: p.stat().st_mtime)
    for file in reversed(others[-SWEEPS:]):
        with suppress(SkinGanError):  # damaged, or of another version
            then = compose.load(file)
            alike = then.trial.model == e.trial.model and then.trial.train.batch == e.trial.train.batch
            if alike and then.cluster == e.cluster:
                s = snapshot(RunFolder(file.parent), then)
                if found := speeds_of(s, e, then.sweep):
                    return found
    return None


def speeds_of(s: Snapshot, e: Experiment, where: str) -> Speeds | None:
    """The speeds of a sweep's trials; None if none has trained yet."""
    trials = [t for c in s.classes for t in c.trials if t.get("images_per_second")][:TRIALS]
    if not trials:
        return None
    images = median(t["images_per_second"] for t in trials)
    pauses = [
        max(0.0, t["seconds"] - t["trained_seconds"]) / t["evaluations"]
        for t in trials
        if t.get("evaluations")
    ]
    sizes = [path.stat().st_size for path in islice(s.run.path.glob("trials/*/*/last.pt"), 1)]
    v = assumed(e, images)
    return replace(
        v,
        evaluation=median(pauses) if pauses else v.evaluation,
        checkpoint=sizes[0] if sizes else v.checkpoint,
        source=f"of {len(trials)} earlier trials of {where}: {images:.3g} images/s per slot",
    )


def assumed(e: Experiment, images: float) -> Speeds:
    """What follows from a training speed alone, in images per second."""
    device = 10.0 if e.profile.gpus_per_node else 1.0  # a GPU's lead in what is no GAN training
    features = 50.0 * device
    updates = {name: ASSUMED_UPDATES[CLASSIFIERS[name].network] * device for name in e.ablate.classifiers}
    measuring = 1.0 + e.evaluate.images / features
    return Speeds(images, measuring, features, ASSUMED_START, checkpoint_size(e.trial.model), updates)


def checkpoint_size(m: ModelSettings) -> float:
    """About the bytes of a checkpoint: weights and Adam's two moments of each network, and the average.

    Most weights are those of 4x4 convolutions between layers of `base` to 8 `base` channels.
    """
    widths = [m.base * min(8, 2**i) for i in range(int(math.log2(m.size)) - 2)]
    weights = 16 * sum(a * b for a, b in itertools.pairwise(widths)) + 16 * m.latent * widths[-1]
    networks = (2 if m.family == "aegan" else 1) + (m.discriminator != "projected")  # whose heads are small
    return 4.0 * weights * (3 * networks + 1)


def check_limits(e: Experiment, cost: Estimate | None, hours: float, disk: float = 0.0) -> list[str]:
    """Warnings about limits. SkinGanError if one is too small for a trial, or for what is used and left.

    `hours`, `disk`: device-hours and GB that the sweep has used.
    """
    if cost is None:
        given = e.limit.device_hours or e.limit.disk
        unsure = "warning: no speed is known, so the limits are only held while the sweep runs"
        return [unsure] if given else []
    one, left = cost.trial, cost.total
    for name, unit, limit, before, of_trial, total in (
        ("device_hours", "device-hours", e.limit.device_hours, hours, one.device_hours, left.device_hours),
        ("disk", "GB", e.limit.disk, disk, one.bytes / GB, left.bytes / GB),
    ):
        if not limit:
            continue
        if total and limit < of_trial:
            raise SkinGanError(
                f"limit.{name}={limit:g} is too small for one trial, which takes about {of_trial:.2g} "
                f"{unit}: raise it, or shorten search.rungs"
            )
        if total and before + total > limit:
            spent = f" beside the {before:.2g} used" if before else ""
            raise SkinGanError(
                f"limit.{name}={limit:g}: what is left is estimated at {total:.3g} {unit}{spent}; "
                "raise it, or lower search.trials, search.rungs or the number of classes"
            )
    return []


# Work


@dataclass(frozen=True)
class Training:
    """Training that is left."""

    kimg: float
    evaluations: float
    trials: int  # that have no folder yet


class Work:
    """What the unfinished jobs of a plan need at these speeds."""

    def __init__(self, plan: Plan, store: Store, s: Snapshot, v: Speeds) -> None:
        self.plan, self.e, self.a, self.store, self.s, self.v = (
            plan, plan.experiment, plan.experiment.ablate, store, s, v,
        )  # fmt: skip
        self.counts = {label: round(TRAINED_ON * n) for label, n in store.counts.items()}

    def of_stage(self, stage: Stage, jobs: list[Job]) -> Cost:
        """The cost of these jobs of a stage."""
        if not jobs:
            return Cost()
        each = [self.seconds(job) + self.v.start for job in jobs]
        extra = self.shared_seconds(stage.name)
        disk = [self.disk(job) for job in jobs]
        wall = self.wall(stage.name, each) + extra
        return Cost(
            jobs=len(jobs),
            device_hours=(sum(each) + extra) / 3600,
            wall_hours=wall / 3600,
            bytes=sum(size for size, _ in disk),
            files=sum(files for _, files in disk) + JOB_FILES * len(jobs),
        )

    def wall(self, stage: str, each: list[float]) -> float:
        """Seconds until jobs of so many device-seconds have ended, without waiting in a queue."""
        p, total, jobs = self.e.profile, slots(self.e), len(each)
        ray = stage == SEARCH and self.e.backend == "ray"
        if p.kind == "slurm":
            at_once, inside = min(p.parallel, jobs), total * p.nodes if ray else 1
        else:
            at_once = 1 if stage == FINAL and p.gpus_per_node else min(total, jobs)
            inside = total // at_once if ray else 1
        inside = (
            min(inside, self.e.search.trials) if ray else nodes_of(self.e, stage) * processes(self.e, stage)
        )
        durations = [seconds / inside + (RAY if ray else 0) for seconds in each]
        return max(max(durations), sum(durations) / at_once)

    def seconds(self, job: Job) -> float:
        """Device-seconds of a job's work, without its start."""
        v = self.v
        if job.stage == PREPARE:
            return self.featured() / v.features
        if job.kimg:
            t = self.training(job)
            return t.kimg * 1000 / v.images + (0.0 if job.stage == PRETRAIN else t.evaluations * v.evaluation)
        if job.stage == GENERATE:
            n, filtered = self.generated(job)
            return n / v.images / FASTER + filtered / v.features
        if job.stage in (ABLATE, COMBINE):
            name = ablation.classifier_of(self.a, job.label)
            plan = self.a.classifiers[name]
            return plan.seeds * self.steps(name) / v.updates[name]
        return SELECTING if job.stage == SELECT else REPORTING

    def shared_seconds(self, stage: str) -> float:
        """Device-seconds that jobs of a stage need once for all: features on which heads are trained."""
        heads = [p for name, p in self.a.classifiers.items() if CLASSIFIERS[name].network == "head"]
        if stage != ABLATE or not heads:
            return 0.0
        filtered = any(p.filters for p in self.a.classifiers.values())  # then `generate` has made them
        images = 0 if filtered else sum(self.generated(j)[0] for j in self.jobs(GENERATE))
        views = VIEWS * sum(self.counts.values()) if any("strong" in p.arms for p in heads) else 0
        return (images + views * len(self.a.folds)) / self.v.features

    def training(self, job: Job) -> Training:
        """The training that a job still needs."""
        rungs, every = self.e.search.rungs, self.e.evaluate.every_kimg
        between = job.kimg // every if every else 0
        if job.stage == SEARCH:
            return self.search_left(job)
        if job.stage == FOLDS:
            folds = len([fold for fold in self.a.folds if fold != self.e.fold])
            return Training(job.kimg, folds * len(rungs) + between, folds)
        return Training(job.kimg, SHEETS if job.stage == PRETRAIN else 1 + between, 1)

    def search_left(self, job: Job) -> Training:
        """What is left of a search job's trials, of which successive halving will stop some."""
        search, every = self.e.search, self.e.evaluate.every_kimg
        folders = [folder for _, folder in self.plan.trials_of(job)]
        count = search.trials if job.index is None else 1  # those to be proposed included
        share = count / search.trials
        kimg, evaluations = expected_kimg(search) * share, sum(survivors(search)) * share
        evaluations += kimg / every if every else 0
        states = [self.s.state(job.label, folder) for folder in folders]
        left = [state for state in states if unfinished(state, self.e)]
        # More trials than expected may have survived: each goes to its next rung at least.
        done = [state.get("kimg", 0.0) for state in left]
        least = sum(min((r for r in search.rungs if r > at), default=at) - at for at in done)
        least += (count - len(folders)) * search.rungs[0]
        remaining = max(least, kimg - sum(state.get("kimg", 0.0) for state in states))
        new = sum(state["state"] == PENDING for state in left)
        return Training(remaining, evaluations * remaining / kimg, new)

    def trial(self) -> Cost:
        """A whole trial."""
        rungs, every = self.e.search.rungs, self.e.evaluate.every_kimg
        t = Training(rungs[-1], len(rungs) + (rungs[-1] // every if every else 0), 1)
        seconds = t.kimg * 1000 / self.v.images + t.evaluations * self.v.evaluation + self.v.start
        return Cost(1, seconds / 3600, seconds / 3600, *self.of_training(t))

    def disk(self, job: Job) -> tuple[float, float]:
        """Bytes and files that a job writes, beside its records and logs."""
        if job.stage == PREPARE:
            return FEATURES * self.featured() + CODE_BYTES, 2 * len(self.store.classes) + CODE_FILES
        if job.kimg:
            return self.of_training(self.training(job))
        if job.stage == SELECT:
            return len(self.e.classes) * self.v.checkpoint / 8, 4 * len(self.e.classes)
        if job.stage == GENERATE:
            n, _ = self.generated(job)
            pixels = n * self.e.trial.model.size**2
            return (PNG * pixels, n + 4) if self.e.operations.png else (3 * pixels, 4)
        if job.stage in (ABLATE, COMBINE):
            seeds = self.a.classifiers[ablation.classifier_of(self.a, job.label)].seeds
            return RUN_BYTES * seeds, RUN_FILES * seeds
        return REPORT_BYTES, REPORT_FILES

    def of_training(self, t: Training) -> tuple[float, float]:
        """Bytes and files of new trials: checkpoints, logs, sheets of images (in TensorBoard's log too)."""
        each = 3 if self.e.trial.model.family == "aegan" else 2
        sheets = min(t.evaluations, KEPT * t.trials) * each
        sheet = PNG * self.e.evaluate.grid * self.e.trial.model.size**2
        return t.trials * (2 * self.v.checkpoint + EVENTS) + (
            sheets + each * t.evaluations
        ) * sheet, t.trials * TRIAL_FILES + sheets

    # Numbers of images and runs

    def jobs(self, stage: str) -> list[Job]:
        return [job for s in self.plan.stages if s.name == stage for job in s.jobs]

    def featured(self) -> int:
        """Real images whose features `prepare` computes."""
        every = ablation.needs_all_features(self.a)
        return sum(n for label, n in self.store.counts.items() if every or label in self.e.classes)

    def generated(self, job: Job) -> tuple[int, int]:
        """Images that a job of `generate` draws, and how many of them pass through the measuring network."""
        task = next(t for t in ablation.sample_tasks(self.a, self.e.classes) if t.label == job.label)
        own = [x for x in ablation.sources(self.a) if x not in ablation.external_sources(self.a)]
        n = Counter({x: self.images_of(x, task.lesion_class) for x in own})
        filtered = any(p.filters for p in self.a.classifiers.values())
        return n.total(), n["best"] if filtered else 0

    def images_of(self, source: str, label: str) -> int:
        folds: Iterable[int | None] = (
            [0, None] if any(p.by_image for p in self.a.classifiers.values()) else [0]
        )
        return max(ablation.images_needed(self.a, source, self.counts, label, fold) for fold in folds)

    def steps(self, name: str) -> int:
        settings = ablation.classifier_settings(name, self.a.classifiers[name], self.e.trial.model.size)
        return settings.steps
