"""Arms measured and compared on one set of test images: values, gains, verdicts. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from skin_gan.ablation.arms import CONTROLS
from skin_gan.ablation.measures import LOWER_IS_BETTER, Array, Labels, Measure, measures
from skin_gan.ablation.predictions import Predictions, pooled
from skin_gan.ablation.stats import Draws, compare, draws, holm, interval, verdict
from skin_gan.errors import SkinGanError


@dataclass(frozen=True)
class ArmRow:
    """One measure of one arm, a share 0..1 with its 95% interval."""

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
    lesions: int


@dataclass(frozen=True)
class GainRow:
    """One measure of an arm minus that of its base; positive is better in every measure."""

    classifier: str
    scope: str
    arm: str
    base: str
    measure: str
    gain: float
    low: float
    high: float
    p: float
    p_adjusted: float  # Holm, over the arms that are compared with this base in this measure; controls apart
    mde: float  # gain that would be found with probability 0.8
    verdict: str
    why: str


@dataclass(frozen=True)
class Scope:
    """The arms of one classifier on the same test images."""

    classifier: str
    name: str
    splits: Sequence[str]  # such as fold-0
    arms: Mapping[str, Mapping[int, Predictions]]  # by arm and seed


@dataclass(frozen=True)
class Measured:
    """Resamples of every arm and measure."""

    scope: Scope
    draws: Mapping[str, Mapping[str, Draws]]  # by arm and measure
    problems: Sequence[str]


def scope(
    classifier: str,
    name: str,
    splits: Sequence[str],
    runs: Mapping[str, Mapping[str, Mapping[int, Predictions]]],
) -> Scope:
    """Of each arm in `runs` the seeds that have all of `splits`, which are pooled."""
    arms = {}
    for arm, by in runs.items():
        seeds = sorted(set.intersection(*(set(by.get(split, {})) for split in splits)))
        if seeds:
            arms[arm] = {seed: pooled([by[split][seed] for split in splits]) for seed in seeds}
    return Scope(classifier, name, splits, arms)


def measure(of: Scope, resamples: int) -> Measured:
    """All measures of all arms. What cannot be measured is named and left out."""
    found, problems = {}, []
    for arm, runs in of.arms.items():
        by_name = measures(next(iter(runs.values())).classes)
        try:
            both = draws(runs, _all(by_name), resamples)
        except SkinGanError as e:
            problems.append(f"{of.classifier}, {arm}, {of.name}: {e}")
            continue
        found[arm] = {m: replace(both, values=both.values[..., i]) for i, m in enumerate(by_name)}
    return Measured(of, found, problems)


def _all(by_name: Mapping[str, Measure]) -> Measure:
    """Every measure as one with values [B,M]: resampling the lesions takes longest, and is done once."""

    def stacked(y: Labels, p: Array, w: Array) -> Array:
        return np.stack([measure(y, p, w) for measure in by_name.values()], axis=1)

    return stacked


def arm_rows(m: Measured) -> list[ArmRow]:
    """Each arm's own values; none where a measure is not defined on these images."""
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
                       images, x.lesions)
            )  # fmt: skip
    return rows


def gain_rows(m: Measured, base: str) -> tuple[list[GainRow], list[str]]:
    """Every other arm minus `base`, a measure at a time; and what could not be compared."""
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
        p_adjusted = adjusted({arm: x.p for arm, x in found.items()})
        for arm, x in found.items():
            p = p_adjusted[arm]
            v = verdict(x, p)
            rows.append(
                GainRow(m.scope.classifier, m.scope.name, arm, base, name, x.estimate, x.low, x.high, x.p, p,
                        x.mde, v.word, v.why)
            )  # fmt: skip
    return rows, list(problems)


def adjusted(p: Mapping[str, float]) -> dict[str, float]:
    """p values by arm, adjusted over all arms but the controls, which ask nothing; those among themselves."""
    families = [[arm for arm in p if (arm in CONTROLS) == control] for control in (False, True)]
    return {arm: x for arms in families for arm, x in zip(arms, holm([p[a] for a in arms]), strict=True)}
