"""Confirms a search: trains its best settings and the published one again, and measures on other lesions.

RUN/confirm has the layout of RUN: confirm/trials/CLASS/0003-ID/ is a training of trial 3's settings with a
new seed. Its checkpoint is chosen as in the search, on the half of the validation lesions that the search
used, and confirmed.json holds what that checkpoint scores on the other half, which has chosen nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpc.plan.sweep_plan import CONFIRM, Plan, confirm_run, confirm_tasks, search_half, seed_of
from hpc.stages.select import best_row, class_rows, ranked
from hpc.state.records import Tell
from skin_gan.config import TrialSettings, TrialSpec
from skin_gan.data.splits import CONFIRMING
from skin_gan.errors import SkinGanError
from skin_gan.folders import DIVERGED, TrialFolder
from skin_gan.identity import content_hash, differing
from skin_gan.io import read_json, write_json


@dataclass(frozen=True)
class Candidate:
    """A setting that is trained again in a class."""

    name: str  # such as 0003, or bcc/0003 if another class's search found it
    index: int  # of the trial that it comes from
    settings: TrialSettings
    searched: dict[str, Any] | None  # the trial's row of the leaderboard; None if it was not measured here

    @property
    def key(self) -> str:
        """Names the settings in all classes."""
        return content_hash(differing(self.settings))

    def spec(self, plan: Plan, label: str, seed: int) -> TrialSpec:
        """The training with new seed number `seed`. No two settings share a seed."""
        first, _ = plan.trials(label)[0]
        own = seed_of(plan.experiment, label, self.index, CONFIRM, self.key, seed)
        return TrialSpec(
            label, self.index, own, first.fold, first.data, self.settings, first.schema, first.start
        )

    def training(self, plan: Plan, label: str, seed: int) -> TrialFolder:
        """The folder of that training."""
        return confirm_run(plan.run).trial(label, self.index, self.spec(plan, label, seed).id)


def candidates(plan: Plan, label: str) -> list[Candidate]:
    """The settings to train again: the published one, the class's best, and other classes' if shared.

    Equal settings are one candidate. SkinGanError if no trial of the class was measured.
    """
    e = plan.experiment
    measured = best_first(plan, label)
    if not measured:
        raise SkinGanError(f"no trial of {label} in {plan.run.path} was measured: see the jobs of its search")
    published, _ = plan.trials(label)[0]
    found = [next((c for c in measured if c.index == 0), Candidate("0000", 0, published.settings, None))]
    for c in measured:
        if len(found) <= e.confirm.top and c.key not in {one.key for one in found}:
            found.append(c)
    for other in e.classes if e.confirm.shared else []:
        for c in best_first(plan, other)[:1] if other != label else []:
            if c.key not in {one.key for one in found}:
                found.append(Candidate(f"{other}/{c.name}", c.index, c.settings, None))
    return found


def best_first(plan: Plan, label: str) -> list[Candidate]:
    """The settings of the class's measured trials, the best by the search first."""
    specs = {folder.path.name: spec for spec, folder in plan.trials(label)}
    rows = ranked(class_rows(plan, label), plan.experiment.select)
    return [Candidate(row["trial"][:4], (s := specs[row["trial"]]).index, s.settings, row) for row in rows]


def confirm(plan: Plan, label: str, tell: Tell) -> None:
    """Train every candidate of a class with one new seed and measure it. A killed job resumes."""
    from hpc.stages.inputs import Inputs
    from hpc.stages.retrain import train_in_full
    from skin_gan.training.session import Diverged

    e, inputs = plan.experiment, Inputs(plan)
    task = next(task for task in confirm_tasks(e) if task.label == label)
    todo = candidates(plan, task.lesion_class)
    tell(trainings=[c.training(plan, task.lesion_class, task.seed).path.name for c in todo])
    for done, c in enumerate(todo):
        tell(done=done, total=len(todo))
        spec = c.spec(plan, task.lesion_class, task.seed)
        folder = c.training(plan, task.lesion_class, task.seed)
        if folder.state()["state"] == DIVERGED:  # it would again
            continue
        try:
            train_in_full(inputs, spec, folder, e.search.rungs, e.evaluate, plan.source(spec), search_half(e))
        except Diverged:
            continue
        if (row := best_row(folder)) is None:
            folder.update(state=DIVERGED, reason="its KID is undefined at every evaluation")
        elif (read_json(folder.confirmed) or {}).get("images") != row["images"]:
            write_json(folder.confirmed, measured_again(inputs, spec, folder, row))


def measured_again(inputs: Any, spec: TrialSpec, folder: TrialFolder, row: dict[str, Any]) -> dict[str, Any]:
    """The scores of the checkpoint that `row` chose, on new images and the confirming half.

    `by_lesion` is its KID from each lesion alone and `shares` these lesions' shares of the photographs.
    """
    from skin_gan.generator import best_generator
    from skin_gan.training.showcase import draw, fixed_latents

    net, *_ = best_generator(folder)
    images = draw(net, fixed_latents(spec, CONFIRM, inputs.plan.experiment.evaluate.images))
    judge = inputs.judge(spec.label, spec=spec, half=CONFIRMING)
    by_lesion, shares = judge.by_lesion(images)
    return {
        "kimg": row["kimg"], "images": row["images"], **judge(images),
        "by_lesion": by_lesion.tolist(), "shares": shares.tolist(),
    }  # fmt: skip
