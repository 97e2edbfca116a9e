"""Makes the report's tables from the predictions on disk. No torch.

    report/arms.csv    a row per classifier, arm, scope and measure: `hpc.report.comparisons.ArmRow`
    report/gains.csv   a row per classifier, scope, arm, base and measure: `hpc.report.comparisons.GainRow`
    report/images.csv  a row per classifier, arm, split and class: `GivenRow`
    report/published.csv   a row per classifier and measure with a published value: `PublishedRow`

A scope is a set of test images: `pooled` over several folds; `fold F`, which is the only fold or that of the
search; `by image`, the split that leaks. The bases are the plain arm and the strongest conventional arm,
which each fold chooses on its own validation images. Where folds choose differently, the arms `combined` and
`strongest` of a pooled scope consist of each fold's choice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hpc.plan.ablation import Choice, filter_file, part, sample_folder
from hpc.plan.sweep_plan import (
    ABLATE,
    CONFIRM,
    FOLDS,
    GENERATE,
    PREPARE,
    PRETRAIN,
    SEARCH,
    SELECT,
    confirm_run,
    reopen,
)
from hpc.report.comparisons import (
    ArmRow,
    GainRow,
    PublishedRow,
    Scope,
    arm_rows,
    gain_rows,
    measure,
    published_rows,
    scope,
)
from hpc.report.finished import Finished, Gap, Runs, classifiers, earlier, finished, with_alarms
from hpc.settings.ablation import BEST, COMBINED, PLAIN, RANDOM, STRONGEST
from hpc.stages.current_runs import Current
from hpc.stages.select import word_of
from hpc.state.endpoints import HELD_OUT
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.ablation.predictions import Predictions
from skin_gan.ablation.stats import RESAMPLES
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.generator import read_yaml
from skin_gan.io import read_json, read_jsonl, write_atomic
from skin_gan.words import ACCEPTED, LEAKAGE, POOR, REJECTED

HEADLINE = "balanced_accuracy"
POOLED, BY_IMAGE = "pooled", "by image"
NOT_BY_LESION = (BY_IMAGE, HELD_OUT, OUTSIDE)
LEAKS = "leakage.csv"

Classes = dict[str, tuple[int, int]]  # test images and lesions of each class


@dataclass
class Tables:
    """All numbers of the report."""

    classifiers: list[str]  # the headline first
    fold: int  # the search's own
    chosen_by: str = HEADLINE  # the measure of validation images that decided each fold's choices
    arms: list[ArmRow] = field(default_factory=list)
    gains: list[GainRow] = field(default_factory=list)
    given: list[GivenRow] = field(default_factory=list)
    published: list[PublishedRow] = field(default_factory=list)
    missing: list[Gap] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # choices and comparisons that failed
    choices: dict[str, dict[int, Choice]] = field(default_factory=dict)  # by classifier and fold
    folds: dict[str, list[int]] = field(default_factory=dict)  # by scope by lesion
    classes: dict[str, Classes] = field(default_factory=dict)  # by scope and class
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of each arm's generated images
    rejected: list[str] = field(default_factory=list)  # rejected generators in use, such as "df of dcgan"
    poor: list[str] = field(default_factory=list)  # likewise poor ones
    leaking: set[str] = field(default_factory=set)  # sources caught leaking in leakage.csv
    unverified: set[str] = field(default_factory=set)  # sources with unknown training images
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of each training, by classifier
    # By classifier and arm: (updates, training loss) of its first run, if it was recorded
    losses: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)

    def gain(
        self, classifier: str, scope: str, arm: str, base: str, measure: str = HEADLINE
    ) -> GainRow | None:
        """The row of gains.csv; None if there is none."""
        wanted = (classifier, scope, arm, base, measure)
        rows = (g for g in self.gains if (g.classifier, g.scope, g.arm, g.base, g.measure) == wanted)
        return next(rows, None)

    @property
    def scopes(self) -> list[str]:
        """The scopes by lesion, all folds together first."""
        return list(dict.fromkeys(a.scope for a in self.arms if a.scope not in NOT_BY_LESION))

    def pair(self, classifier: str, scope: str) -> tuple[str, str]:
        """The arm with generated images and the base of a classifier's verdict; ("", "") if not all folds of
        the scope have chosen."""
        chosen = [self.choices.get(classifier, {}).get(fold) for fold in self.folds.get(scope, [])]
        return pair([c for c in chosen if c]) if chosen and all(chosen) else ("", "")

    def bases(self, classifier: str, scope: str) -> list[str]:
        """The arms that gains are computed over: the plain one, and the strongest conventional one."""
        return list(dict.fromkeys([PLAIN, self.pair(classifier, scope)[1] or PLAIN]))

    def verdict(self, classifier: str) -> GainRow | None:
        """The gain of the combined arm over the strongest conventional one, in the first scope that has it.

        If there is nothing to combine, the arm has the generated images only.
        """
        found = (self.gain(classifier, scope, *self.pair(classifier, scope)) for scope in self.scopes)
        return next((g for g in found if g), None)

    @property
    def headline(self) -> GainRow | None:
        """The verdict of the first classifier."""
        return self.verdict(next(iter(self.classifiers), ""))

    def endpoint(self, scope: str) -> GainRow | None:
        """The same comparison on the photographs of `HELD_OUT` or `OUTSIDE`."""
        classifier = next(iter(self.classifiers), "")
        return self.gain(classifier, scope, *self.pair(classifier, scope))


def tables(run: RunFolder, resamples: int = RESAMPLES) -> Tables:
    """The tables of all finished runs, and the missing runs."""
    current = Current(reopen(run))
    e = current.e
    out = Tables(classifiers(e), e.fold, e.ablate.choose_by)
    for classifier in out.classifiers:
        done = finished(current, classifier)
        out.missing += done.gaps
        out.problems += done.problems
        out.choices[classifier] = done.choices
        out.seconds[classifier] = [
            p.record["seconds"] for by in done.runs.values() for of in by.values() for p in of.values()
        ]
        alarmed, problems = with_alarms(run, classifier, done.runs)
        runs = with_chosen(alarmed, done.choices)
        _describe(out, classifier, runs)
        out.given += given_rows(run, classifier, runs)
        out.problems += problems
        outside = with_chosen(done.outside, done.choices)
        for name, splits in _scopes(done, e.fold).items():
            of = scope(classifier, name, splits, outside if name == OUTSIDE else runs)
            if not of.arms:
                continue  # no arm has all folds yet
            out.classes.setdefault(name, _counts(of))
            if name != BY_IMAGE:
                out.folds[name] = [int(split.removeprefix("fold-")) for split in splits]
            measured = measure(of, resamples)
            out.problems += measured.problems
            rows = arm_rows(measured)
            out.arms += rows
            out.published += published_rows(of, rows, PLAIN) if name == BY_IMAGE else []
            for base in out.bases(classifier, name):
                primary = _primary(out, classifier, name, base)
                before = _before(out, name, e.ablate.by_source)
                gains, problems = gain_rows(measured, base, primary, before)
                out.gains += gains
                out.problems += problems
        _note_generators(out, run, done, e.ablate.folds[0])
    for place in sorted((run.path / "ablation").glob("*")):
        out.problems += earlier(run, place.name) if place.name not in out.classifiers else []
    out.leaking = {row["source"] for row in read_csv(run.path / "report" / LEAKS) if row["caught"] == "True"}
    out.gains = [_leaked(g) if {g.scope, *out.sources.get(g.arm, ())} & out.leaking else g for g in out.gains]
    return out


def pair(chosen: Sequence[Choice]) -> tuple[str, str]:
    """The names of the arm with generated images and of its base, for folds with these choices.

    Where the folds have chosen differently, the name is that of an arm that `with_chosen` adds.
    """
    arms = {c["combined"] or c["generated"] or BEST for c in chosen}
    bases = {c["strongest"] for c in chosen}
    return (
        arms.pop() if len(arms) == 1 else COMBINED,
        bases.pop() or "" if len(bases) == 1 else STRONGEST,
    )


def with_chosen(runs: Runs, choices: Mapping[int, Choice]) -> Runs:
    """`runs`, and where folds have chosen differently, arms that consist of each fold's choice."""
    found, names = dict(runs), pair(list(choices.values()))
    for place, name in enumerate((COMBINED, STRONGEST)):
        if name in names:
            own = {part(fold): runs.get(pair([c])[place], {}).get(part(fold)) for fold, c in choices.items()}
            found[name] = {split: of_split for split, of_split in own.items() if of_split}
    return {name: by for name, by in found.items() if by}


def _leaked(row: GainRow) -> GainRow:
    """The gain with the verdict leakage: what the arm is trained on repeats photographs of the test."""
    what = "training" if row.scope == OUTSIDE else "its"
    return replace(row, verdict=LEAKAGE, why=f"{what} images repeat test photographs; by number {row.why}")


def _scopes(done: Finished, own: int) -> dict[str, list[str]]:
    """The splits of each scope; `own`: the fold of the search."""
    found = {POOLED: done.folds} if len(done.folds) > 1 else {}
    for alone in {part(own)} & set(done.folds) if found else done.folds:
        found[alone.replace("-", " ")] = [alone]
    if done.sources:
        found[HELD_OUT] = done.sources
    if done.outside:
        found[OUTSIDE] = done.folds
    if part(None) in done.splits:
        found[BY_IMAGE] = [part(None)]
    return found


def _primary(out: Tables, classifier: str, name: str, base: str) -> tuple[str, str] | None:
    """Arm and measure of the headline's comparison, if it belongs to this scope and base; else None."""
    arm, against = out.pair(classifier, name)
    here = classifier == out.classifiers[0] and name != BY_IMAGE and base == against
    return (arm, HEADLINE) if here and (out.headline is None or name in NOT_BY_LESION) else None


def _before(out: Tables, name: str, by_source: bool) -> float:
    """The largest p value of the endpoints before this scope's in the fixed sequence; 1 if one is missing."""
    if name not in (HELD_OUT, OUTSIDE):
        return 0.0
    earlier = [out.headline] + [out.endpoint(HELD_OUT)] * (name == OUTSIDE and by_source)
    return max(row.p_adjusted if row else 1.0 for row in earlier)


def _describe(out: Tables, classifier: str, runs: Runs) -> None:
    """Record the arms' losses and the sources of their images."""
    for arm, by in runs.items():
        records = [p.record for of_split in by.values() for p in of_split.values()]
        if loss := records[0].get("loss"):
            out.losses.setdefault(classifier, {})[arm] = loss
        used = {r["arm"]["source"] for r in records if r["arm"]["synthetic"] != "none"}
        if used:
            out.sources[arm] = tuple(sorted({*out.sources.get(arm, ()), *used}))
            out.unverified |= {r["arm"]["source"] for r in records if r["unverified"]}


def _note_generators(out: Tables, run: RunFolder, done: Finished, leaky: int) -> None:
    """Record the rejected and poor generators whose images runs have used, by the sets' manifests.

    `leaky`: the fold whose images the split by image uses. External images count as accepted.
    """
    used = set()
    for by in done.runs.values():
        for split, of_split in by.items():
            fold = leaky if split == part(None) else int(split.removeprefix("fold-"))
            for record in (p.record for p in of_split.values()):
                used |= {(fold, record["arm"]["source"], c) for c, n in record["synthetic"].items() if n}
    for fold, source, label in sorted(used):
        file = sample_folder(run, fold, source) / label / "manifest.yaml"
        card = read_yaml(file) if file.exists() else {}
        word = word_of(card) if "accepted" in card else ACCEPTED
        names = {REJECTED: out.rejected, POOR: out.poor}.get(word, [])
        if (name := f"{label} of {source}") not in names:
            names.append(name)


def _counts(of: Scope) -> Classes:
    """The test images and lesions of each class in a scope."""
    p = next(iter(next(iter(of.arms.values())).values()))
    rows = {c: p.labels == k for k, c in enumerate(p.classes)}
    return {c: (int(mine.sum()), len(set(p.lesions[mine]))) for c, mine in rows.items()}


def write_tables(found: Tables, folder: Path) -> None:
    """Write arms.csv, gains.csv, images.csv and published.csv to `folder`."""
    write_csv(folder / "arms.csv", found.arms, ArmRow)
    write_csv(folder / "gains.csv", found.gains, GainRow)
    write_csv(folder / "images.csv", found.given, GivenRow)
    write_csv(folder / "published.csv", found.published, PublishedRow)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none if the file does not exist."""
    try:
        with open(path, newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def write_csv(path: Path, rows: Sequence[Any], kind: type) -> None:
    """Write rows of the dataclass `kind` with a header; floats have 6 digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(kind)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = asdict(row)
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})
    write_atomic(path, text.getvalue())


@dataclass(frozen=True)
class Cost:
    """Hours of one device, a GPU or the CPU threads of one training, that a part of a stage has used."""

    stage: str
    part: str  # a lesion class or a classifier; "" for the whole stage
    trainings: int
    device_hours: float


def costs(run: RunFolder, classifiers: Mapping[str, Sequence[float]]) -> list[Cost]:
    """The cost of each stage; `classifiers`: seconds of each training by classifier."""
    found = [
        _by_job(run, PREPARE),
        _by_job(run, PRETRAIN),
        *_trials(SEARCH, run.trials),
        *_trials(CONFIRM, confirm_run(run).trials),
        _by_job(run, SELECT),
    ]
    for folder in sorted(run.path.glob("folds/*/*/trials")):
        found += _trials(FOLDS, folder)
    found.append(_by_job(run, GENERATE))
    found += [Cost(ABLATE, name, len(spent), sum(spent) / 3600) for name, spent in classifiers.items()]
    return _summed([c for c in found if c.device_hours > 0])


def _trials(stage: str, folder: Path) -> list[Cost]:
    """The cost of each class's trials, by their metrics."""
    found = []
    for label in sorted(path for path in folder.glob("*") if path.is_dir()):
        last = [rows[-1] for path in label.glob("*/metrics.jsonl") if (rows := read_jsonl(path))]
        found.append(Cost(stage, label.name, len(last), sum(row["seconds"] for row in last) / 3600))
    return found


def _by_job(run: RunFolder, stage: str) -> Cost:
    """The cost of a stage by its job records."""
    records = [read_json(path) or {} for path in sorted(run.jobs.glob(f"{stage}*.json"))]
    seconds = sum(r["ended"] - r["started"] for r in records if {"started", "ended"} <= r.keys())
    return Cost(stage, "", 0, seconds / 3600)


def _summed(found: list[Cost]) -> list[Cost]:
    """The costs summed over folds and sources."""
    groups: dict[tuple[str, str], list[Cost]] = {}
    for c in found:
        groups.setdefault((c.stage, c.part), []).append(c)
    return [Cost(*key, sum(c.trainings for c in costs), sum(c.device_hours for c in costs))
            for key, costs in groups.items()]  # fmt: skip


@dataclass(frozen=True)
class GivenRow:
    """The images of one class in the training set of one arm and split."""

    classifier: str
    arm: str
    split: str  # fold-0, ..., by-image
    label: str
    real: int  # including repeats
    generated: int
    kept: float | None  # share, 0..1, of the class's generated images that the filter keeps; None: no filter


def given_rows(
    run: RunFolder, classifier: str, runs: Mapping[str, Mapping[str, Mapping[int, Predictions]]]
) -> list[GivenRow]:
    """Rows from the records of each arm's first seed; all seeds have the same images."""
    rows = []
    for arm, by in runs.items():
        for split, of_split in by.items():
            record = next(iter(of_split.values())).record
            filter_ = record["arm"]["filter"].removeprefix(RANDOM)
            for label, real in record["real"].items():
                kept = _share(run, split, label, filter_) if filter_ else None
                rows.append(GivenRow(classifier, arm, split, label, real, record["synthetic"][label], kept))
    return rows


def _share(run: RunFolder, split: str, label: str, filter_: str) -> float | None:
    """The share of a class's images that a filter keeps; None if unknown."""
    if split == part(None):
        return None  # it uses the images of a fold that is not recorded
    try:
        found = read_json(filter_file(run, int(split.removeprefix("fold-")), label)) or {}
    except SkinGanError:
        return None
    share = found.get(filter_, {}).get("share")
    return None if share is None else float(share)
