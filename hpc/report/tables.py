"""Predictions on disk to tables: how good each arm is, and what it gains over which other. No torch.

    report/arms.csv    a row per classifier, arm, scope and measure: `hpc.report.compared.ArmRow`
    report/gains.csv   a row per classifier, scope, arm, base and measure: `hpc.report.compared.GainRow`
    report/images.csv  a row per classifier, arm, split and class: `hpc.report.given.GivenRow`
    report/published.csv   a row per classifier and measure with published numbers: `hpc.report.published`

A scope is which images were tested on: `pooled` over several folds; `fold F`, the only fold, or beside others
the search's own; `by image`, the split that leaks. Bases are the plain arm, and the arm that was strongest on
validation images of those without generated images. Each fold chooses by its own validation images: where
folds have chosen differently, the arms `combined` and `strongest` of a pooled scope are each fold's choice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hpc.ablation import BEST, COMBINED, STRONGEST, part, sample_folder
from hpc.ablation.current import Current
from hpc.plan import reopen
from hpc.report.compared import ArmRow, GainRow, Scope, arm_rows, gain_rows, measure, scope
from hpc.report.finished import Finished, Gap, classifiers, earlier, finished
from hpc.report.given import GivenRow, given_rows
from hpc.report.published import PublishedRow, published_rows
from hpc.report.thresholds import Runs, with_alarms
from hpc.selection import word_of
from hpc.trees import read_yaml
from skin_gan.ablation.stats import RESAMPLES
from skin_gan.folders import RunFolder
from skin_gan.io import write_atomic
from skin_gan.words import ACCEPTED, LEAKAGE, POOR, REJECTED

PLAIN, HEADLINE = "real", "balanced_accuracy"
POOLED, BY_IMAGE = "pooled", "by image"
LEAKS = "leakage.csv"

Classes = dict[str, tuple[int, int]]  # test images and lesions of each class


@dataclass
class Tables:
    """All that the report says in numbers."""

    classifiers: list[str]  # the headline first
    fold: int  # the search's own
    arms: list[ArmRow] = field(default_factory=list)
    gains: list[GainRow] = field(default_factory=list)
    given: list[GivenRow] = field(default_factory=list)
    published: list[PublishedRow] = field(default_factory=list)
    missing: list[Gap] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # choices and comparisons that could not be made
    # By classifier and fold: what was fixed on the fold's validation images
    choices: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    folds: dict[str, list[int]] = field(default_factory=dict)  # of each scope by lesion
    classes: dict[str, Classes] = field(default_factory=dict)  # scope, class: images, lesions
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)  # arm: whose images it was given
    rejected: list[str] = field(default_factory=list)  # generators that runs have used, as "df of dcgan"
    poor: list[str] = field(default_factory=list)
    leaking: set[str] = field(default_factory=set)  # sources that were caught, by leakage.csv
    unverified: set[str] = field(default_factory=set)  # sources that do not say which fold they have seen
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of each training, by classifier
    # By classifier and arm: (updates, training loss) of its first run, where it has been recorded
    losses: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)

    def gain(
        self, classifier: str, scope: str, arm: str, base: str, measure: str = HEADLINE
    ) -> GainRow | None:
        wanted = (classifier, scope, arm, base, measure)
        rows = (g for g in self.gains if (g.classifier, g.scope, g.arm, g.base, g.measure) == wanted)
        return next(rows, None)

    @property
    def scopes(self) -> list[str]:
        """Those by lesion, all folds together first."""
        return list(dict.fromkeys(a.scope for a in self.arms if a.scope != BY_IMAGE))

    def pair(self, classifier: str, scope: str) -> tuple[str, str]:
        """The arm with generated images and the base of a classifier's verdict, by the choices of the scope's
        folds; ("", "") where one of those is not made."""
        chosen = [self.choices.get(classifier, {}).get(fold) for fold in self.folds.get(scope, [])]
        return pair([c for c in chosen if c]) if chosen and all(chosen) else ("", "")

    def verdict(self, classifier: str) -> GainRow | None:
        """The combined arm minus the strongest conventional one; of the search's fold until others are there.

        Where there is nothing to combine, the generated images are meant by themselves.
        """
        found = (self.gain(classifier, scope, *self.pair(classifier, scope)) for scope in self.scopes)
        return next((g for g in found if g), None)

    @property
    def headline(self) -> GainRow | None:
        """The verdict of the first classifier."""
        return self.verdict(next(iter(self.classifiers), ""))


def tables(run: RunFolder, resamples: int = RESAMPLES) -> Tables:
    """Every arm of every classifier, as far as its runs have come; what is missing is listed."""
    current = Current(reopen(run))
    e = current.e
    out = Tables(classifiers(e), e.fold)
    for classifier in out.classifiers:
        there = finished(current, classifier)
        out.missing += there.gaps
        out.problems += there.problems
        out.choices[classifier] = there.choices
        out.seconds[classifier] = [
            p.record["seconds"] for by in there.runs.values() for of in by.values() for p in of.values()
        ]
        alarmed, problems = with_alarms(run, classifier, there.runs)
        runs = with_chosen(alarmed, there.choices)
        _describe(out, classifier, runs)
        out.given += given_rows(run, classifier, runs)
        out.problems += problems
        for name, splits in _scopes(there, e.fold).items():
            of = scope(classifier, name, splits, runs)
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
            for base in _bases(out, classifier, name):
                gains, problems = gain_rows(measured, base, _primary(out, classifier, name, base))
                out.gains += gains
                out.problems += problems
        _judge_generators(out, run, there, e.ablate.folds[0])
    for place in sorted((run.path / "ablation").glob("*")):
        out.problems += earlier(run, place.name) if place.name not in out.classifiers else []
    out.leaking = {row["source"] for row in read_csv(run.path / "report" / LEAKS) if row["caught"] == "True"}
    out.gains = [_leaked(g) if {*out.sources.get(g.arm, ())} & out.leaking else g for g in out.gains]
    return out


def pair(chosen: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The names of the arm with generated images and of its base, over folds with these choices.

    Where the folds have chosen differently it is an arm of its own, made of each fold's: see `with_chosen`.
    """
    arms = {c["combined"] or c["generated"] or BEST for c in chosen}
    bases = {c["strongest"] for c in chosen}
    return (
        arms.pop() if len(arms) == 1 else COMBINED,
        bases.pop() or "" if len(bases) == 1 else STRONGEST,
    )


def with_chosen(runs: Runs, choices: Mapping[int, Mapping[str, Any]]) -> Runs:
    """`runs` and, where folds have chosen differently, the arms that are each fold's choice."""
    found, names = dict(runs), pair(list(choices.values()))
    for place, name in enumerate((COMBINED, STRONGEST)):
        if name in names:
            own = {part(fold): runs.get(pair([c])[place], {}).get(part(fold)) for fold, c in choices.items()}
            found[name] = {split: of_split for split, of_split in own.items() if of_split}
    return {name: by for name, by in found.items() if by}


def _leaked(row: GainRow) -> GainRow:
    """Whatever the arm gains, its images repeat what it is tested on."""
    return replace(row, verdict=LEAKAGE, why=f"its images repeat test photographs; by number {row.why}")


def _scopes(there: Finished, own: int) -> dict[str, list[str]]:
    found = {POOLED: there.folds} if len(there.folds) > 1 else {}
    for alone in {part(own)} & set(there.folds) if found else there.folds:
        found[alone.replace("-", " ")] = [alone]
    if part(None) in there.splits:
        found[BY_IMAGE] = [part(None)]
    return found


def _bases(out: Tables, classifier: str, name: str) -> list[str]:
    strongest = out.pair(classifier, name)[1]
    return [PLAIN, strongest] if strongest not in ("", PLAIN) else [PLAIN]


def _primary(out: Tables, classifier: str, name: str, base: str) -> tuple[str, str] | None:
    """Arm and measure of the headline's comparison, if it is to be made in this scope with this base."""
    arm, against = out.pair(classifier, name)
    here = classifier == out.classifiers[0] and name != BY_IMAGE and base == against
    return (arm, HEADLINE) if here and out.headline is None else None


def _describe(out: Tables, classifier: str, runs: Runs) -> None:
    """Note whose images arms were given, and how they trained."""
    for arm, by in runs.items():
        records = [p.record for of_split in by.values() for p in of_split.values()]
        if loss := records[0].get("loss"):
            out.losses.setdefault(classifier, {})[arm] = loss
        used = {r["arm"]["source"] for r in records if r["arm"]["synthetic"] != "none"}
        if used:
            out.sources[arm] = tuple(sorted({*out.sources.get(arm, ()), *used}))
            out.unverified |= {r["arm"]["source"] for r in records if r["unverified"]}


def _judge_generators(out: Tables, run: RunFolder, there: Finished, leaky: int) -> None:
    """Note the rejected and poor generators whose images runs were trained on, by the sets' own manifests.

    `leaky`: the fold whose images a split by image is given. Sets of others have no such word.
    """
    used = set()
    for by in there.runs.values():
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
    p = next(iter(next(iter(of.arms.values())).values()))
    rows = {c: p.labels == k for k, c in enumerate(p.classes)}
    return {c: (int(mine.sum()), len(set(p.lesions[mine]))) for c, mine in rows.items()}


def write_tables(found: Tables, folder: Path) -> None:
    """Write arms.csv, gains.csv, images.csv and published.csv into `folder`."""
    write_csv(folder / "arms.csv", found.arms, ArmRow)
    write_csv(folder / "gains.csv", found.gains, GainRow)
    write_csv(folder / "images.csv", found.given, GivenRow)
    write_csv(folder / "published.csv", found.published, PublishedRow)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where there is no file."""
    try:
        with open(path, newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def write_csv(path: Path, rows: Sequence[Any], kind: type) -> None:
    """Rows of one dataclass, floats to 6 digits; with its header even if there are none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(kind)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = asdict(row)
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})
    write_atomic(path, text.getvalue())
