"""Makes a sweep's report: leakage, sheets, quiz, tables and page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from hpc.plan.sweep_plan import Plan
from hpc.report.leakage import write_leaks
from hpc.report.page import SPLIT, write_quiz, write_report
from hpc.report.sample_sets import Sampled, write_sheets
from hpc.report.tables import Cost, costs, tables, write_csv, write_tables
from skin_gan.ablation.parts import image_split, leak
from skin_gan.ablation.samples import SampleSet
from skin_gan.io import write_json


def make_report(plan: Plan, photographs: bool = True) -> Path:
    """Write everything to the sweep's report/ and return the page's path.

    Without `photographs` the page shows generated images only, and there is no quiz.
    """
    torch.set_num_threads(plan.experiment.operations.threads)
    folder, sampled = plan.run.path / "report", Sampled(plan)
    write_leaks(sampled, folder)
    write_sheets(sampled, folder)
    if photographs:
        practice(sampled, folder)
    if any(p.by_image for p in sampled.a.classifiers.values()):
        store = sampled.inputs.store
        write_json(folder / SPLIT, asdict(leak(store, image_split(store))))
    found = tables(plan.run)
    write_tables(found, folder)
    cost = costs(plan.run, found.seconds)
    write_csv(folder / "costs.csv", cost, Cost)
    return write_report(plan.run, found, cost, folder, photographs)


def practice(sampled: Sampled, folder: Path) -> None:
    """Write the quiz of validation photographs and generated images, if there are any of the latter."""
    images = {}
    for label in sampled.e.classes:
        sample = sampled.read(sampled.e.fold, sampled.main, label) if sampled.main else None
        if isinstance(sample, SampleSet):
            images[label] = (sampled.inputs.split(label).val.images, sample.images)
    if images:
        write_quiz(folder / "quiz.html", images, sampled.run.path.name, sampled.e.seed)
