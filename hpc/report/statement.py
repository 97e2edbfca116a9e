"""Writes the report's sentences from its tables: the verdict, its support, and warnings. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from hpc.report.comparisons import GainRow
from hpc.report.tables import BY_IMAGE, HEADLINE, PLAIN, Tables, pair
from hpc.report.wording import arm_title, classifier_title, gain, measure_title, span
from hpc.settings.ablation import COMBINED, STRONGEST
from skin_gan.ablation.arms import CONTROLS
from skin_gan.ablation.measures import MELANOMA, SENSITIVITY
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.ablation.verdict import WORTHWHILE
from skin_gan.words import HARMS, HELPS, NOT_JUDGED, NOTHING, POOR, REJECTED, RULED_OUT, UNRESOLVED

# By the headline's verdict: the verdicts of other classifiers that contradict it
OTHERWISE = {
    HELPS: (HARMS, RULED_OUT), HARMS: (HELPS,), RULED_OUT: (HELPS,), UNRESOLVED: (HELPS, HARMS),
    NOT_JUDGED: (HELPS, HARMS, RULED_OUT),
}  # fmt: skip
FEW_IMAGES, FEW_LESIONS = 50, 20  # in test; below these the report warns about a class's recall
LEAK = "leak"
NONE = "no verdict yet"


@dataclass(frozen=True)
class Statement:
    """The page's first lines."""

    word: str  # a verdict, LEAK or NONE
    sentence: str
    beside: list[str]  # sentences that qualify the verdict: contradictions, unfilled classes, melanoma
    support: list[str]
    warnings: list[str]


def statement(found: Tables, caught: Sequence[Mapping[str, str]], data: Mapping[str, Any]) -> Statement:
    """The statement of a report; `caught`: leaking sets in leakage.csv; `data`: from provenance.json."""
    row = found.headline
    warnings = _warnings(found, caught, data)
    if row is None:
        return Statement(NONE, "No verdict yet.", [], [_why_not(found)], warnings)
    leaked = sorted({c["label"] for c in caught if c["source"] in found.sources.get(row.arm, ())})
    if leaked:
        sentence = (
            f"No verdict: generated images of {', '.join(leaked)} are near copies of photographs that the "
            "classifier is tested on."
        )
        return Statement(LEAK, sentence, [], [f"By number: {_change(row)}."], warnings)
    beside = [*_contradictions(found, row), *_unfilled(found, row), *_melanoma(found, row)]
    return Statement(row.verdict, _sentence(row), beside, _support(found, row), warnings)


def _sentence(row: GainRow) -> str:
    """The verdict as a sentence."""
    change = _change(row)
    return {
        HELPS: f"Generated images help: {change}.",
        HARMS: f"Generated images harm: {change}.",
        RULED_OUT: f"A gain of {100 * WORTHWHILE:g} points is ruled out: {change}.",
        UNRESOLVED: f"Not resolved, too few lesions or seeds to tell: {change}.",
        NOT_JUDGED: f"Not judged: {row.why.partition(';')[0]}.",
        NOTHING: "No verdict: nothing was added, no generated image was left to train with.",
    }[row.verdict]  # fmt: skip


def _contradictions(found: Tables, row: GainRow) -> list[str]:
    """A sentence for each other classifier with a contradicting verdict."""
    said = []
    for name in found.classifiers:
        other = found.verdict(name)
        if name == row.classifier or other is None or other.verdict not in OTHERWISE.get(row.verdict, ()):
            continue
        said.append(
            f"Another classifier says otherwise ({classifier_title(name)}): {other.verdict}, "
            f"{gain(other.gain)} points {span(other.low, other.high)} over {arm_title(other.base)}."
        )
    return said


def _unfilled(found: Tables, row: GainRow) -> list[str]:
    """A sentence on the classes to which the headline's arm added no generated images in any fold."""
    splits = {f"fold-{fold}" for fold in found.folds[row.scope]}
    made: dict[str, int] = {}
    for g in found.given:
        if (g.classifier, g.arm) == (row.classifier, row.arm) and g.split in splits:
            made[g.label] = made.get(g.label, 0) + g.generated
    without = [label for label, n in made.items() if not n]
    if not without or len(without) == len(made):
        return []
    return [f"No generated images were added to {', '.join(without)}."]


def _melanoma(found: Tables, row: GainRow) -> list[str]:
    """A sentence if fewer melanomas are found. The interval is unadjusted, so that it warns early."""
    for measure in (SENSITIVITY, f"recall_{MELANOMA}"):
        fall = found.gain(row.classifier, row.scope, row.arm, row.base, measure)
        if fall is None:
            continue
        if not fall.high < 0:
            return []
        return [
            f"Melanomas are found less often: {gain(fall.gain)} points of {measure_title(measure)} "
            f"{span(fall.low, fall.high)} over {arm_title(fall.base)}."
        ]
    return []


def _change(row: GainRow) -> str:
    """The gain with its interval and base."""
    span_ = span(row.low, row.high)
    return f"{gain(row.gain)} points of balanced accuracy {span_} over {arm_title(row.base)}"


def _why_not(found: Tables) -> str:
    """Why there is no verdict yet."""
    if not found.arms:
        return "No classifier run has finished."
    if not found.scopes:
        return "Only a split by image has been tested, which says nothing about new lesions."
    pairs = [found.pair(found.classifiers[0], scope) for scope in found.scopes]
    arm, base = next((p for p in pairs if all(p)), ("", ""))
    if not base:
        return "The strongest conventional arm has not been fixed on validation images yet (stage combine)."
    return (
        f"The headline compares {arm_title(arm)} with {arm_title(base)}, and one of them has no finished run."
    )


def _support(found: Tables, row: GainRow) -> list[str]:
    """The headline's numbers, the gain over real images only, and the gain on the search's fold."""
    why = row.why.replace("-", "−")
    lines = [
        f"Classifier {row.classifier}: {arm_title(row.arm)}, against {arm_title(row.base)}, the strongest "
        f"arm without generated images on validation, by {measure_title(found.chosen_by)}. "
        f"{why[0].upper()}{why[1:]}."
    ]
    lines[0] += _chosen(found, row)
    if isfinite(row.mde) and row.verdict != NOT_JUDGED:
        lines[0] += f" A true gain of {100 * row.mde:.1f} points would be found with a probability of 80%."
    plain = found.gain(row.classifier, row.scope, row.arm, PLAIN)
    base = found.gain(row.classifier, row.scope, row.base, PLAIN)
    if plain and base:
        lines.append(
            f"Over real images only, which is what is often reported, the same arm gains {gain(plain.gain)} "
            f"{span(plain.low, plain.high)}; {arm_title(row.base)} alone: {gain(base.gain)} "
            f"{span(base.low, base.high)}."
        )
    own = f"fold {found.fold}"
    alone = found.gain(row.classifier, own, *found.pair(row.classifier, own))
    if alone and alone != row:
        lines.append(
            f"On fold {found.fold} alone, whose test lesions the search has not seen: {gain(alone.gain)} "
            f"{span(alone.low, alone.high)}, {alone.verdict}."
        )
    return lines


def _chosen(found: Tables, row: GainRow) -> str:
    """A sentence on the folds' choices: which images were added to which arm."""
    by_fold = {fold: found.choices[row.classifier][fold] for fold in found.folds[row.scope]}
    if row.arm == COMBINED or row.base == STRONGEST:
        said = []
        for fold, c in by_fold.items():
            arm, base = pair([c])
            said.append(f"fold {fold} {arm_title(arm)} against {arm_title(base)}")
        return f" Each fold chose by its own validation lesions: {'; '.join(said)}."
    treatment = next(iter(by_fold.values())).get("treatment")
    if treatment in (row.base, None):
        return ""
    return f" The generated images are added to {arm_title(treatment)}, the strongest that adds none."


def _warnings(found: Tables, caught: Sequence[Mapping[str, str]], data: Mapping[str, Any]) -> list[str]:
    """Sentences that a reader must know before believing the verdict."""
    said = []
    if data.get("kind") == "demo":
        said.append("Demo data, drawn by a program: this page only shows that the software works.")
    said += [line for _, line, expected in controls(found) if not expected]
    if near := sorted({c["label"] for c in caught if c["source"] == OUTSIDE}):
        said.append(f"The set outside repeats training photographs of {', '.join(near)}: no verdict on it.")
    if caught := [c for c in caught if c["source"] not in (*CONTROLS, OUTSIDE)]:
        sets = ", ".join(sorted({f"{c['source']}/{c['label']} (fold {c['fold']})" for c in caught}))
        said.append(f"Caught leaking: {sets}. Arms with these images are not to be believed.")
    for used, word in ((found.rejected, REJECTED), (found.poor, POOR)):
        if used:
            said.append(f"Images of generators that the selection calls {word} were used: {', '.join(used)}.")
    empty = sorted({g.arm for g in found.gains if g.verdict == NOTHING})
    if empty:
        said.append(
            f"No generated image was left for {', '.join(map(arm_title, empty))}: no verdict on these."
        )
    if found.missing:
        said.append(f"{len(found.missing)} classifier runs are missing, see below; launch again to add them.")
    said += found.problems
    if found.unverified:
        said.append(
            "It is unknown which photographs were used to make the images of "
            f"{', '.join(sorted(found.unverified))}."
        )
    if any(a.scope != BY_IMAGE and " " not in a.seeds for a in found.arms):
        said.append("Some arms have one seed: their intervals do not include the variation between seeds.")
    return said


def controls(found: Tables) -> list[tuple[str, str, bool]]:
    """For each control that was run: its classifier, a sentence, and whether the verdict is as expected."""
    out = []
    for row in found.gains:
        wanted = CONTROLS.get(row.arm, ())
        if wanted and (row.scope, row.base, row.measure) == (found.scopes[0], PLAIN, HEADLINE):
            expected = row.verdict in wanted
            other = f"expected {' or '.join(wanted)}: this bench cannot tell"
            judged = "as it must be" if expected else other
            said = f"{row.classifier}, {arm_title(row.arm)}: {row.verdict}, {judged} ({_change(row)})."
            out.append((row.classifier, said, expected))
    return out


def limits(found: Tables, data: Mapping[str, Any]) -> list[str]:
    """The limits of what these numbers show."""
    scope = next(iter(found.scopes), "")
    small = {
        c: (images, lesions)
        for c, (images, lesions) in found.classes.get(scope, {}).items()
        if images < FEW_IMAGES or lesions < FEW_LESIONS
    }
    said = []
    if small:
        few = ", ".join(f"{c} ({images} images, {lesions} lesions)" for c, (images, lesions) in small.items())
        said.append(f"Few test images: {few}. Recall of these classes is very uncertain, but counts as much "
                    "as any other in balanced accuracy.")  # fmt: skip
    if len(found.folds.get(scope, [])) > 1:
        said.append(
            "Arms, ratio and filter were chosen in each fold on its own validation lesions only: no choice "
            "has seen the test lesions that it is evaluated on."
        )
    if len(found.scopes) > 1:
        said.append(
            f"Settings were searched on fold {found.fold}, whose training and validation lesions are other "
            f"folds' test lesions. So fold {found.fold} alone is shown beside the pooled folds."
        )
    if data.get("unit") == "image":
        said.append("This data does not identify lesions: split and intervals treat images as independent.")
    if data.get("unit") == "group":
        said.append(
            "Lesions or patients are known for some images only: the others are treated as independent."
        )
    if data.get("partial"):
        said.append("The data is a partial copy of its release: do not compare with published numbers.")
    said += [
        "By lesion all photographs are from one data set. That does not say how a classifier performs on "
        "those of another clinic, camera or population.",
        "There is one generator per class and source: the intervals do not include the variation between "
        "trainings of the generator.",
    ]
    return said
