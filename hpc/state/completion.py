"""Whether a job has anything left to do, judged by what is on disk. No torch."""

from __future__ import annotations

import itertools
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hpc.plan import ablation
from hpc.plan.sweep_plan import (
    ABLATE,
    AFTER_SELECTION,
    COMBINE,
    FINAL,
    GENERATE,
    PREPARE,
    REPORT,
    SEARCH,
    SELECT,
    Job,
    Plan,
    unfinished,
)
from hpc.state.generators import finished
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.identity import content_hash
from skin_gan.io import read_json

# What tells one run of a job from another, and what of a trial's state its training decides.
RUN = ("state", "started", "host", "pid", "attempt")
RESULT = ("state", "reason", "kimg", "kid", "best_kid", "best_kimg")


def complete(plan: Plan, job: Job) -> bool:
    """Whether the job has nothing left to do, judged by what is on disk."""
    record = read_json(plan.run.jobs / f"{job.name}.json") or {}
    if job.stage == SEARCH:
        last = plan.experiment.search.rungs[-1]
        return not any(unfinished(folder.state(), last) for _, folder in plan.trials_of(job))
    if job.stage == FINAL:
        return finished(plan, job.label)
    if record.get("state") != "done":
        return False
    if job.stage == PREPARE:
        return set(plan.experiment.classes) <= set(record.get("classes", [])) and (
            "all" in record.get("features", []) or not ablation.needs_all_features(plan.experiment.ablate)
        )
    if job.stage == SELECT and not plan.run.leaderboard.exists():
        return False
    # Not by when they ran: the clocks of different nodes do not agree.
    now = inputs(plan, job)
    return now is not None and record.get("inputs") == now and left(plan, job, record)


def of_earlier_version(plan: Plan, job: Job) -> bool:
    """Whether the job ended well under a version that did not record what jobs read: it is done again."""
    if job.stage != SELECT and job.stage not in AFTER_SELECTION:
        return False
    record = read_json(plan.run.jobs / f"{job.name}.json") or {}
    return record.get("state") == "done" and "inputs" not in record


def left(plan: Plan, job: Job, record: dict[str, Any]) -> bool:
    """Whether what the job has made is still there, as far as a look at files' ends tells."""
    run, a = plan.run, plan.experiment.ablate
    if job.stage == REPORT:
        return (run.path / "report" / "index.html").exists()
    if job.stage == GENERATE:
        task = next(t for t in ablation.sample_tasks(a, plan.experiment.classes) if t.label == job.label)
        sets = (ablation.sample_folder(run, task.fold, source) for source in record.get("sets", []))
        return all((folder / task.lesion_class / "manifest.yaml").exists() for folder in sets)
    if job.stage not in (ABLATE, COMBINE):
        return True
    tasks = ablation.arm_tasks(a) if job.stage == ABLATE else ablation.combined_tasks(a)
    asked = next(t for t in tasks if t.label == job.label)
    if job.stage == COMBINE:
        try:
            chosen = ablation.choices(run, asked.classifier, a.folds).get(asked.fold or 0)
        except SkinGanError:  # damaged, or of an earlier version: written again
            chosen = None
        if chosen is None:
            return False
        if not chosen["combined"]:
            return True
        asked = replace(asked, arm=chosen["combined"])
    folders = [ablation.arm_folder(run, asked, seed) for seed in range(a.classifiers[asked.classifier].seeds)]
    parts = ("test",) if asked.fold is None else ("val", "test")
    if not all(zipfile.is_zipfile(folder / f"{part}.npz") for folder in folders for part in parts):
        return False
    return job.stage == ABLATE or all(of_this_version(folder / "test.npz") for folder in folders)


def of_this_version(predictions: Path) -> bool:
    """Whether this version would make the classifier run again as it was made.

    Asked of combined arms, the only ones that an earlier version has made otherwise: it opens the file.
    """
    from skin_gan.ablation.predictions import load
    from skin_gan.ablation.runs import current

    try:
        return current(load(predictions).record)
    except SkinGanError:
        return False


def inputs(plan: Plan, job: Job) -> str | None:
    """A hash of all that the job reads of the settings and of what others have made.

    None for jobs that are complete by what they make, and while a job before has not ended.
    """
    if job.stage == SELECT:
        return content_hash([asdict(plan.experiment.select), plan.experiment.classes, results(plan)])
    if job.stage not in AFTER_SELECTION:
        return None
    before = {j.name: read_json(plan.run.jobs / f"{j.name}.json") or {} for j in jobs_before(plan, job)}
    if not all("ended" in record for record in before.values()):
        return None
    # A job that ran again may have made something else.
    runs = {name: [record.get(key) for key in RUN] for name, record in before.items()}
    return content_hash([target(plan, job.stage), plan.experiment.classes, runs, generators(plan)])


def results(plan: Plan) -> list[list[Any]]:
    """What each trial of the sweep has come to."""
    trials = (folder for label in plan.experiment.classes for _, folder in plan.trials(label))
    return [[folder.path.name, *map(folder.state().get, RESULT)] for folder in trials]


def jobs_before(plan: Plan, job: Job) -> list[Job]:
    """The jobs from the selection on whose results a later one reads."""
    stages = itertools.takewhile(lambda stage: stage.name != job.stage, plan.stages)
    return [j for stage in stages if stage.name not in (PREPARE, SEARCH) for j in stage.jobs]


def generators(plan: Plan) -> list[str]:
    """A hash of the card of each generator of other sweeps that are sources of the ablation."""
    a, found = plan.experiment.ablate, []
    for name in sorted(set(a.sources) - ablation.foreign(a).keys()):
        for label in plan.experiment.classes:
            card = RunFolder(Path(a.sources[name])).best(label) / "generator.yaml"
            found.append(content_hash(card.read_text()) if card.exists() else "")
    return found


def target(plan: Plan, stage: str) -> Any:
    """What a job works towards, which a launch may change: kimg, in a search trials per class too, and in the
    ablation all of its settings, and the files of images that others made."""
    e = plan.experiment
    if stage == FINAL:
        return [e.final.kimg]
    if stage in AFTER_SELECTION:
        return content_hash([asdict(e.ablate), asdict(e.select), e.allow_rejected, *plan.stamps])
    return [e.search.trials, *e.search.rungs]
