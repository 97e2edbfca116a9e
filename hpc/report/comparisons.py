"""Measures arms and compares them on one set of test images: values, gains and verdicts. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hpc.settings.ablation import PLAIN, RANDOM
from skin_gan.ablation.arms import CONTROLS
from skin_gan.ablation.classifiers import PUBLISHED, Published
from skin_gan.ablation.measures import (
    LOWER_IS_BETTER,
    MELANOMA,
    REALISED,
    SENSITIVITY,
    Array,
    measures,
    rests_on,
    share,
)
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.ablation.predictions import Predictions, averaged, pooled
from skin_gan.ablation.runs import content
from skin_gan.ablation.stats import Draws, compare, draws_of, interval, test_images
from skin_gan.ablation.verdict import holm, in_sequence, not_learnt, verdict
from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash
from skin_gan.words import CONTROL, NOTHING


@dataclass(frozen=True)
class ArmRow:
    """One measure of one arm, 0..1, with its 95% interval."""

    classifier: str
    arm: str
    scope: str
    seeds: str  # such as "0 1 2"
    folds: str
    measure: str
    value: float
    low: float
    high: float
    images: int
    lesions: int  # test lesions that the measure is computed on: for a recall those of its class
    same_run_as: str = ""  # other arms that are the same run, separated by "; "


@dataclass(frozen=True)
class GainRow:
    """One measure of an arm minus that of its base; a positive gain is better for every measure."""

    classifier: str
    scope: str
    arm: str
    base: str
    measure: str
    gain: float
    low: float
    high: float
    p: float
    comparisons: int  # number that p is adjusted for, see `adjusted`; 1: unadjusted
    p_adjusted: float  # Holm
    mde: float  # minimum detectable effect: found with probability 0.8 at level 0.05 / comparisons
    verdict: str
    why: str
    same_run_as: str = ""  # other arms that are the same run, separated by "; "


@dataclass(frozen=True)
class Scope:
    """The arms of one classifier on the same test images."""

    classifier: str
    name: str
    splits: Sequence[str]  # such as fold-0
    arms: Mapping[str, Mapping[int, Predictions]]  # by arm and seed

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """A hash of the data and settings of each arm's runs: equal if two arms are the same run."""
        return {
            arm: content_hash([[seed, *map(content, p.record["folds"])] for seed, p in runs.items()])
            for arm, runs in self.arms.items()
        }

    def same_as(self, arm: str) -> str:
        """The other arms that are the same run, separated by "; "."""
        same = self.fingerprints[arm]
        return "; ".join(a for a, other in self.fingerprints.items() if other == same and a != arm)

    def empty(self, arm: str) -> bool:
        """Whether the arm should add generated images but got none in any fold."""
        found = [fold for p in self.arms[arm].values() for fold in p.record["folds"]]
        return found[0]["arm"]["synthetic"] != "none" and not any(sum(f["synthetic"].values()) for f in found)

    def no_verdict(self, arm: str) -> str:
        """The label shown instead of a verdict, or ""."""
        return NOTHING if self.empty(arm) else CONTROL if f"/{RANDOM}" in arm else ""


@dataclass(frozen=True)
class Measured:
    """Resamples of every arm and measure."""

    scope: Scope
    draws: Mapping[str, Mapping[str, Draws]]  # by arm and measure
    problems: Sequence[str]

    @cached_property
    def unlearnt(self) -> str:
        """Why the classifier allows no verdict, judged by its plain arm; "" if it does."""
        if PLAIN not in self.draws:
            return f"the arm {PLAIN}, which shows whether the classifier has learnt, has no finished run"
        drawn = self.draws[PLAIN]["balanced_accuracy"]
        folds = [fold for p in self.scope.arms[PLAIN].values() for fold in p.record["folds"]]
        classes = sum(n > 0 for n in drawn.sizes.values())
        return not_learnt(interval(drawn), classes, [fold.get("loss") or [] for fold in folds])


def scope(
    classifier: str,
    name: str,
    splits: Sequence[str],
    runs: Mapping[str, Mapping[str, Mapping[int, Predictions]]],
) -> Scope:
    """The scope of all `splits` together, with the seeds of each arm that have finished in all of them.

    Folds are tested on different photographs, which are pooled; outside they are tested on the same ones, and
    the folds' classifiers of one seed predict together, by their mean.
    """
    arms, join = {}, averaged if name == OUTSIDE else pooled
    for arm, by in runs.items():
        seeds = sorted(set.intersection(*(set(by.get(split, {})) for split in splits)))
        if seeds:
            arms[arm] = {seed: join([by[split][seed] for split in splits]) for seed in seeds}
    return Scope(classifier, name, splits, arms)


def measure(of: Scope, resamples: int) -> Measured:
    """Measure all arms. Arms that cannot be measured are left out and listed as problems."""
    problems: list[str] = []
    by_test: dict[str, dict[str, Mapping[int, Predictions]]] = {}
    for arm, runs in of.arms.items():
        try:
            by_test.setdefault(test_images(runs), {})[arm] = runs
        except SkinGanError as e:
            problems.append(f"{of.classifier}, {arm}, {of.name}: {e}")
    drawn: dict[str, Draws] = {}
    for arms in by_test.values():
        drawn |= draws_of(arms, _all, resamples)
    found = {
        arm: _by_measure(drawn[arm], next(iter(of.arms[arm].values()))) for arm in of.arms if arm in drawn
    }
    return Measured(of, found, problems)


def _by_measure(both: Draws, run: Predictions) -> dict[str, Draws]:
    names = [*measures(run.classes), *([SENSITIVITY, REALISED] if MELANOMA in run.classes else [])]
    return {
        name: replace(both, values=both.values[..., i], rests_on=rests_on(name, run.classes))
        for i, name in enumerate(names)
    }


def _all(run: Predictions, w: Array) -> Array:
    """All measures [B,M] of a run for the weights [B,N]; at once, since resampling takes longest."""
    all_measures = measures(run.classes, run.folds).values()
    found = [measure(run.labels, run.probabilities, w) for measure in all_measures]
    if MELANOMA in run.classes:
        positive = run.labels == run.classes.index(MELANOMA)
        unknown = np.full(len(w), np.nan)
        found += [unknown] * 2 if run.alarms is None else [
            share(run.alarms, positive, w), share(~run.alarms, ~positive, w)
        ]  # fmt: skip
    return np.stack(found, axis=1)


def arm_rows(m: Measured) -> list[ArmRow]:
    """A row for each arm and each measure that is defined on these images."""
    rows = []
    for arm, by_measure in m.draws.items():
        runs = m.scope.arms[arm]
        seeds, folds = " ".join(map(str, runs)), " ".join(s.removeprefix("fold-") for s in m.scope.splits)
        images = len(next(iter(runs.values())).labels)
        for name, drawn in by_measure.items():
            try:
                x = interval(drawn)
            except SkinGanError:
                continue  # a class without test images has no recall
            rows.append(
                ArmRow(m.scope.classifier, arm, m.scope.name, seeds, folds, name, x.estimate, x.low, x.high,
                       images, x.lesions, m.scope.same_as(arm))
            )  # fmt: skip
    return rows


def gain_rows(
    m: Measured, base: str, primary: tuple[str, str] | None = None, before: float = 0.0
) -> tuple[list[GainRow], list[str]]:
    """A row for each measure of each other arm minus `base`, and a line for each failed comparison.

    `primary`: arm and measure of the one comparison that was fixed beforehand; `before`: the largest p value
    of the endpoints that come before it in the fixed sequence.
    """
    rows: list[GainRow] = []
    problems: dict[str, None] = {}
    for name in m.draws.get(base, {}):
        found = {}
        for arm, drawn in m.draws.items():
            pair = (m.draws[base][name], drawn[name]) if arm != base and name in drawn else None
            try:
                if pair:
                    found[arm] = compare(*(pair if name in LOWER_IS_BETTER else pair[::-1]))
            except SkinGanError as e:
                if "not defined" not in str(e):
                    problems[f"{m.scope.classifier}, {arm} against {base}, {m.scope.name}: {e}"] = None
        first = primary[0] if primary and primary[1] == name else None
        tested = adjusted(m.scope, {arm: x.p for arm, x in found.items()}, base, first)
        for arm, x in found.items():
            p, n = tested[arm]
            p = in_sequence([before, p])[-1] if arm == first else p
            v = verdict(x, p, n, unlearnt=m.unlearnt)
            label = m.scope.no_verdict(arm)
            rows.append(
                GainRow(m.scope.classifier, m.scope.name, arm, base, name, x.estimate, x.low, x.high, x.p, n,
                        p, v.mde, label or v.word, "" if label == NOTHING else v.why, m.scope.same_as(arm))
            )  # fmt: skip
    return rows, list(problems)


def adjusted(
    of: Scope, p: Mapping[str, float], base: str, primary: str | None = None
) -> dict[str, tuple[float, int]]:
    """Each arm's adjusted p value, and the number of comparisons that it is adjusted for.

    Holm's correction covers the explored comparisons and counts each run once, whatever its names. It does
    not cover the primary comparison, which was fixed beforehand, the plain arm, which is itself a base,
    random controls of filters, and arms that equal the base or got no images. The bench's controls are a
    family of their own.
    """
    runs = of.fingerprints
    first: dict[str, str] = {}  # one arm for each run
    for arm in sorted(p, key=lambda arm: arm != primary):
        first.setdefault(runs[arm], arm)
    found: dict[str, tuple[float, int]] = {}
    for controls in (True, False):
        family = [
            arm
            for arm in first.values()
            if (arm in CONTROLS) == controls
            and not (arm in (primary, PLAIN) or of.no_verdict(arm) or runs[arm] == runs[base])
        ]
        found |= {a: (x, len(family)) for a, x in zip(family, holm([p[a] for a in family]), strict=True)}
    return {arm: found.get(first[runs[arm]], (x, 1)) for arm, x in p.items()}


@dataclass(frozen=True)
class PublishedRow:
    """One measure, 0..1, of a classifier on real images only, split by image, beside its published value."""

    classifier: str
    measure: str
    published: float
    value: float
    low: float
    high: float
    seeds: int
    train_images: int
    test_images: int
    epochs: float
    published_train_images: int
    published_epochs: int
    source: str

    @property
    def differs(self) -> str:
        """The differences from the published setting, in one sentence."""
        trainings = "one training" if self.seeds == 1 else f"{self.seeds} trainings"
        return (
            f"Here {trainings} on {self.train_images} images for {self.epochs:.3g} epochs, the last state "
            f"taken; published: {self.published_train_images} images, {self.published_epochs} epochs, the "
            f"best state on validation images. Both splits are random: the {self.test_images} test images "
            "here are not the published ones."
        )


def published_rows(of: Scope, rows: Sequence[ArmRow], arm: str) -> list[PublishedRow]:
    """A row for each published measure of the classifier beside the value of `arm`."""
    known = PUBLISHED.get(of.classifier)
    if known is None or arm not in of.arms:
        return []
    mine = {row.measure: row for row in rows if row.arm == arm}
    return [_row(of, known, mine[measure], arm) for measure in known.results if measure in mine]


def _row(of: Scope, known: Published, row: ArmRow, arm: str) -> PublishedRow:
    record = next(iter(of.arms[arm].values())).record["folds"][0]
    images = sum(record["real"].values())
    settings = record["classifier"]
    return PublishedRow(
        classifier=of.classifier,
        measure=row.measure,
        published=known.results[row.measure],
        value=row.value,
        low=row.low,
        high=row.high,
        seeds=len(of.arms[arm]),
        train_images=images,
        test_images=row.images,
        epochs=settings["steps"] * settings["batch"] / images,
        published_train_images=known.train_images,
        published_epochs=known.epochs,
        source=known.source,
    )
