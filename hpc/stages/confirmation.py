"""What the new trainings say: the settings that classes get, the table and the sentences about it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from hpc.plan.sweep_plan import Plan
from hpc.settings.compose import Experiment
from hpc.settings.space import searched, value_at
from hpc.stages.confirm import Candidate, best_first, candidates
from hpc.stages.select import best_row, rejections
from hpc.state.confirmed import SENTENCES, TABLE
from skin_gan.errors import SkinGanError
from skin_gan.folders import DIVERGED, TrialFolder
from skin_gan.io import read_json, write_atomic, write_json
from skin_gan.metrics.confirmation import Difference, Trainings, best, decide, difference, one_setting

PUBLISHED, BETTER, WORSE, UNRESOLVED, UNKNOWN = "published", "better", "worse", "not resolved", "not known"


@dataclass(frozen=True)
class Row:
    """One setting in one class. KID is x1000 on the confirming half; differences below 0 are better."""

    label: str
    setting: str  # the trial it comes from: 0003, or bcc/0003 from another class's search
    seeds: int
    diverged: int  # how many of the seeds' trainings
    search_kid: float | None  # of the trial, on the half that was searched on
    kid: float | None  # mean over the seeds; None if any diverged
    kid_sd: float | None  # standard deviation over the seeds
    kids: str  # of each seed
    optimism: float | None  # search_kid - kid: below 0 the search's number was too good
    difference: float | None  # kid - that of the published setting
    low: float | None  # its interval; those of a class hold together with 95%
    high: float | None
    verdict: str
    mean_rank: float | None  # over classes, of settings that all classes have
    one_setting: bool  # whether it is the setting for all classes
    own_setting: bool  # whether it is this class's best
    over_one: float | None  # kid - that of the setting for all classes
    over_one_low: float | None
    over_one_high: float | None
    chosen: bool
    generator: str  # the training whose generator it exports: the best of its seeds on the search's half
    lesions: int  # of the confirming half
    faults: int  # reasons for which that generator is rejected, on the confirming half


@dataclass(frozen=True)
class Measured:
    """A candidate's trainings in one class."""

    candidate: Candidate
    records: tuple[Mapping[str, Any] | None, ...]  # their confirmed.json, by seed; None: it diverged
    generator: TrialFolder | None  # of these trainings the best on the search's half
    faults: int  # reasons to reject that generator, on the confirming half

    @cached_property
    def trainings(self) -> Trainings | None:
        """None if any seed diverged: such a setting is not recommended."""
        records = [record for record in self.records if record]
        if len(records) < len(self.records):
            return None
        return Trainings(np.array([r["by_lesion"] for r in records]), np.array(records[0]["shares"]))

    @property
    def mean(self) -> float:
        return self.trainings.mean if self.trainings else math.inf


@dataclass(frozen=True)
class Decision:
    """What the new trainings say of one class. Settings are named by their `Candidate.key`."""

    label: str
    settings: dict[str, Measured]  # the published one first
    ranks: dict[str, float]  # mean rank over classes, of the settings that all classes have
    one: str  # the setting for all classes: the first of `ranks`
    own: str  # this class's best
    chosen: str
    winner: Candidate  # the search's best

    @property
    def published(self) -> str:
        return next(iter(self.settings))

    @property
    def curse(self) -> float | None:
        """The search's minimum minus the new mean of that setting; None if that is undefined."""
        confirmed = self.settings[self.winner.key].mean
        return optimism(self.winner, confirmed)

    def over(self, base: str) -> dict[str, Difference]:
        """Each setting's difference from `base`, where both are defined; their intervals hold together."""
        found = {key: m.trainings for key, m in self.settings.items() if m.trainings}
        against = found.pop(base, None)
        return {key: difference(x, against, len(found)) for key, x in found.items()} if against else {}


def optimism(c: Candidate, confirmed: float) -> float | None:
    """The KID that the search measured minus the new mean: below 0 the search's number was too good."""
    return c.searched["kid"] - confirmed if c.searched and math.isfinite(confirmed) else None


def measured(plan: Plan, label: str) -> dict[str, Measured]:
    """The class's candidates, the published one first. SkinGanError while trainings are missing."""
    found = {}
    for c in candidates(plan, label):
        folders = [c.training(plan, label, seed) for seed in range(plan.experiment.confirm.seeds)]
        records = [record_of(folder) for folder in folders]
        generator = best_training([f for f, record in zip(folders, records, strict=True) if record], plan)
        faults = rejections(read_json(generator.confirmed) or {}, plan.experiment.select) if generator else []
        found[c.key] = Measured(c, tuple(records), generator, len(faults))
    if not any(m.trainings for m in found.values()):
        raise SkinGanError("of every setting some new training diverged")
    return found


def best_training(folders: Sequence[TrialFolder], plan: Plan) -> TrialFolder | None:
    """The training with the best generator on the search's half, so that the other half stays unused."""
    rows = {folder: row for folder in folders if (row := best_row(folder))}
    limits = plan.experiment.select
    return min(rows, key=lambda f: (len(rejections(rows[f], limits)), rows[f]["kid"]), default=None)


def record_of(folder: TrialFolder) -> dict[str, Any] | None:
    """The training's confirmed.json; None if it diverged. SkinGanError if it has not been measured yet."""
    if folder.state()["state"] == DIVERGED:
        return None
    if (record := read_json(folder.confirmed)) is None:
        raise SkinGanError(f"{folder.path.name} was not measured: see the jobs of the stage confirm")
    return record if record["kid"] is not None else None


def decisions(plan: Plan) -> tuple[list[Decision], dict[str, str]]:
    """A decision for each class whose trainings are complete, and for each other class why they are not."""
    found, missing = {}, {}
    for label in plan.experiment.classes:
        try:
            found[label] = measured(plan, label)
        except SkinGanError as e:
            missing[label] = str(e)
    if not found:
        return [], missing
    ranks = one_setting({label: {k: m.mean for k, m in of.items()} for label, of in found.items()})
    return [decided(plan, label, of, ranks) for label, of in found.items()], missing


def decided(plan: Plan, label: str, settings: dict[str, Measured], ranks: dict[str, float]) -> Decision:
    """The decision on one class: its best setting, or with confirm.shared the one for all classes, from which
    it then deviates only where that is shown."""
    one, faults = next(iter(ranks)), {key: m.faults for key, m in settings.items()}
    own = best({key: m.mean for key, m in settings.items() if m.trainings}, faults)
    d = Decision(label, settings, ranks, one, own, own, best_first(plan, label)[0])
    if plan.experiment.confirm.shared and settings[one].trainings:
        return replace(d, chosen=decide(own, one, faults, d.over(one)))
    return d


def rows_of(d: Decision) -> list[Row]:
    """The decision as rows of confirmation.csv, the lowest mean first."""
    gains, over_one = d.over(d.published), d.over(d.one)
    rows = [_row(d, key, gains.get(key), over_one.get(key)) for key in d.settings]
    return sorted(rows, key=lambda row: math.inf if row.kid is None else row.kid)


def _row(d: Decision, key: str, gain: Difference | None, over_one: Difference | None) -> Row:
    m, x = d.settings[key], d.settings[key].trainings
    return Row(
        label=d.label,
        setting=m.candidate.name,
        seeds=len(m.records),
        diverged=m.records.count(None),
        search_kid=m.candidate.searched["kid"] if m.candidate.searched else None,
        kid=x.mean if x else None,
        kid_sd=x.sd if x else None,
        kids=" ".join(f"{r['kid']:.2f}" if r else "diverged" for r in m.records),
        optimism=optimism(m.candidate, m.mean),
        verdict=PUBLISHED if key == d.published else word(gain),
        mean_rank=d.ranks.get(key),
        one_setting=key == d.one,
        own_setting=key == d.own,
        chosen=key == d.chosen,
        generator=m.generator.path.name if m.generator else "",
        lesions=len(x.weights) if x else 0,
        faults=m.faults,
        **_interval(gain, "difference", "low", "high"),
        **_interval(over_one, "over_one", "over_one_low", "over_one_high"),
    )


def word(gain: Difference | None) -> str:
    """The verdict on a setting by its difference from the published one."""
    if gain is None:
        return UNKNOWN
    return BETTER if gain.better else WORSE if gain.worse else UNRESOLVED


def _interval(d: Difference | None, *names: str) -> dict[str, Any]:
    """A difference and its interval under these names."""
    return dict(zip(names, (d.estimate, d.low, d.high) if d else (None, None, None), strict=True))


def write_confirmation(plan: Plan) -> dict[str, Decision]:
    """Write confirmation.csv and confirmation.json (the sentences); returns the decisions by class."""
    found, missing = decisions(plan)
    names = searched(plan.experiment.search.space)
    text = io.StringIO()
    columns = ["class", *[f.name for f in fields(Row)][1:], *names]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for d in found:
        of = {m.candidate.name: m.candidate.settings for m in d.settings.values()}
        for row in rows_of(d):
            values = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
            drawn = {name: value_at(of[row.setting], name) for name in names}
            writer.writerow({"class": values.pop("label"), **values, **drawn})
    write_atomic(plan.run.path / TABLE, text.getvalue())
    write_json(plan.run.path / SENTENCES, {"sentences": sentences(plan, found, missing)})
    return {d.label: d for d in found}


def remarks(found: Iterable[Decision]) -> dict[tuple[str, str], str]:
    """By class and trial, what the new trainings add to the leaderboard's notes."""
    said = {}
    for row in (row for d in found for row in rows_of(d)):
        diverged = f"{row.diverged} of {row.seeds} new trainings diverged"
        said[row.label, row.setting] = diverged
        if row.kid is not None:
            mean = f"KID x1000 {row.kid:.1f} (sd {row.kid_sd:.1f})"
            said[row.label, row.setting] = f"confirmed by {row.seeds} new seeds: {mean}"
    return said


def sentences(plan: Plan, found: Sequence[Decision], missing: Mapping[str, str]) -> list[str]:
    """What the confirmation says, in words."""
    said = [f"{label} is not confirmed, so no gain is claimed: {why}." for label, why in missing.items()]
    if not found:
        return said
    gained = [d.label for d in found if d.chosen in (g := d.over(d.published)) and g[d.chosen].better]
    said.insert(0, _gain(found, gained))
    said += [_of_class(d) for d in found]
    if curses := {d.label: d.curse for d in found if d.curse is not None}:
        mean, each = sum(curses.values()) / len(curses), [f"{label} {c:+.1f}" for label, c in curses.items()]
        said.append(
            f"Winner's curse: the search's lowest KID x1000 was on average {abs(mean):.1f} "
            f"{'below' if mean < 0 else 'above'} the mean of new trainings of the same settings on the other "
            f"half of the validation lesions ({', '.join(each)})."
        )
    said.append(_one(plan.experiment, found))
    said.append(
        "A class's generator is, of the new trainings of its setting, the one with the lowest KID on the "
        "half that the search used; the numbers on its card are from the other half."
    )
    return said


def _gain(found: Sequence[Decision], gained: Sequence[str]) -> str:
    seeds = len(next(iter(found[0].settings.values())).records)
    how = (
        f"({seeds} new seeds, lesions that the search has not used; the intervals of a class hold together "
        "with 95%)"
    )
    if not gained:
        return f"No gain of the search over the published setting is shown in any class {how}."
    others = ", ".join(d.label for d in found if d.label not in gained)
    rest = f"; in {others} none is claimed" if others else ""
    return f"The search gained over the published setting in {', '.join(gained)} {how}{rest}."


def _of_class(d: Decision) -> str:
    chosen, published = d.settings[d.chosen], d.settings[d.published]
    own = (
        f"KID x1000 {chosen.mean:.1f} (sd {chosen.trainings.sd:.1f})" if chosen.trainings else "KID undefined"
    )
    if d.chosen == d.published:
        return f"{d.label}: the published setting stays, {own}."
    gain = d.over(d.published).get(d.chosen)
    if gain is None:
        return f"{d.label}: setting {chosen.candidate.name}, {own}; the published one diverged."
    verdict = "a gain" if gain.better else "a loss" if gain.worse else "not resolved, so no gain is claimed"
    return (
        f"{d.label}: setting {chosen.candidate.name}, {own}, published {published.mean:.1f}: "
        f"{gain.estimate:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}], {verdict}."
    )


def _one(e: Experiment, found: Sequence[Decision]) -> str:
    d = found[0]
    if not e.confirm.shared:
        return "No setting for all classes was looked for (confirm.shared=false): each class gets its best."
    name, own = d.settings[d.one].candidate.name, [d.label for d in found if d.chosen != d.one]
    if "/" not in name and d.one != d.published:
        name = f"{d.label}/{name}"
    return (
        f"One setting for all classes: {name}, of mean rank {d.ranks[d.one]:.1f} among the {len(d.ranks)} "
        "that all classes trained. A class deviates only where its interval excludes 0, or where that "
        f"setting's generator would be rejected: {', '.join(own) or 'none does'}."
    )
