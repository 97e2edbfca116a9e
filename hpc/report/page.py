"""The sweep's one page: report/index.html, which holds all it shows and loads nothing. No torch.

It is made from files: the tables, leakage.csv and sheets.json with their sheets, the leaderboard, the trials'
metrics, provenance.json. What is not there is left out, and said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2

from hpc import config
from hpc.ablation import BEST
from hpc.publish import SOURCES
from hpc.report import evidence, plots
from hpc.report.compared import ArmRow, GainRow
from hpc.report.costs import Cost
from hpc.report.tables import BY_IMAGE, HEADLINE, LEAKS, PLAIN, Tables, read_csv
from hpc.report.verdicts import Statement, controls, limits, statement
from hpc.report.words import (
    ADJUSTED,
    MINIMUM,
    THRESHOLD,
    arm_title,
    class_title,
    gain,
    measure_title,
    number,
    span,
    value,
)
from skin_gan.ablation.measures import REALISED, SENSITIVITY
from skin_gan.export import NOTICE
from skin_gan.folders import RunFolder
from skin_gan.io import read_json, write_atomic, write_json

TEMPLATES = Path(__file__).parent / "templates"
SPLIT = "split.json"  # how much a split by image leaks: skin_gan.ablation.parts.Leak
COLUMNS = ("accuracy", "macro_auc", "ece", SENSITIVITY, REALISED)  # beside balanced accuracy


def write_report(
    run: RunFolder, found: Tables, cost: Sequence[Cost], folder: Path, photographs: bool = True
) -> Path:
    """Write `folder`/index.html; without `photographs` it holds generated images only.

    Its first sentences are in `folder`/verdict.json too, for the terminal.
    """
    page, values = folder / "index.html", context(run, found, cost, folder, photographs)
    first: Statement = values["statement"]
    write_json(folder / "verdict.json", {"verdict": first.word, "sentences": [first.sentence, *first.beside]})
    write_atomic(page, render("report.html.j2", values))
    return page


def render(template: str, values: Mapping[str, Any]) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    pages = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for function in (arm_title, class_title, measure_title, number):
        pages.globals[function.__name__] = function
    return pages.get_template(template).render(values)


def context(
    run: RunFolder, found: Tables, cost: Sequence[Cost], folder: Path, photographs: bool
) -> dict[str, Any]:
    """Everything the template says."""
    e = config.load(run.settings)
    made = read_json(run.provenance) or {}
    data = made.get("data", {})
    leaks = read_csv(folder / LEAKS)
    caught = [row for row in leaks if row["caught"] == "True"]
    trials = read_csv(run.leaderboard)
    return {
        "title": e.about or e.sweep, "run": run.path.name, "data": data, "notice": NOTICE,
        "source": SOURCES.get(data.get("kind", ""), ""), "statement": statement(found, caught, data),
        "panels": [panel(found, c, i) for i, c in enumerate(found.classifiers)], "missing": gaps(found),
        "leaks": leaks, "usual": usual(found), "published": published(found),
        "leak": read_json(folder / SPLIT), "photographs": photographs,
        "sheets": evidence.sheets(folder, photographs), "curves": evidence.training(run, e),
        "best": evidence.chosen(run, e), "trials": trials, "cost": cost,
        "searched": [name for name in next(iter(trials), {}) if "." in name],
        "quiz": (folder / "quiz.html").exists(),
        "adjusted": ADJUSTED, "threshold": THRESHOLD, "minimum": MINIMUM,
        "hours": sum(c.device_hours for c in cost),
        "provenance": evidence.provenance(run, e, made),
        "settings": evidence.settings(e, data),
        "limits": limits(found, data),
    }  # fmt: skip


# ---- tables and figures of one classifier ---------------------------------------------------------------


def panel(found: Tables, classifier: str, place: int) -> dict[str, Any]:
    """All that is shown of one classifier, for each scope by lesion."""
    scopes = [s for s in found.scopes if any((a.classifier, a.scope) == (classifier, s) for a in found.arms)]
    return {
        "name": classifier, "place": place,
        "strongest": found.pair(classifier, scopes[0])[1] if scopes else "",
        "choices": [(fold, chosen, ranked(chosen))
                    for fold, chosen in sorted(found.choices.get(classifier, {}).items())],
        "tables": [table(found, classifier, scope, bases(found, classifier, scope)) for scope in scopes],
        "forests": forests(found, classifier, scopes[0], bases(found, classifier, scopes[0]), place)
                   if scopes else [],
        "recalls": recall_plot(found, classifier, scopes[0], place) if scopes else None,
        "images": images(found, classifier),
        "losses": loss_plot(found, classifier, place),
        "classes": found.classes.get(scopes[0], {}) if scopes else {},
        "controls": [said for name, said, _ in controls(found) if name == classifier],
    }  # fmt: skip


def bases(found: Tables, classifier: str, scope: str) -> list[str]:
    """What gains are shown over: the strongest arm without generated images, and the plain one."""
    return [base for base in dict.fromkeys([found.pair(classifier, scope)[1], PLAIN]) if base]


def ranked(chosen: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Arms with their balanced accuracy on a fold's validation images, the best first."""
    of_arms = sorted((chosen.get("validation") or {}).items(), key=lambda pair: -pair[1])
    return [(arm_title(arm), value(share)) for arm, share in of_arms]


def table(found: Tables, classifier: str, scope: str, bases: Sequence[str]) -> dict[str, Any]:
    """A row per arm: its values, its gain over each base, the verdict against the first."""
    rows = []
    mine = [a for a in found.arms if (a.classifier, a.scope) == (classifier, scope)]
    for arm, of_arm in groupby(mine, key=lambda a: a.arm):
        by = {a.measure: a for a in of_arm}
        against = [found.gain(classifier, scope, arm, base) for base in bases]
        others = [cell(by.get(measure)) for measure in COLUMNS]
        rows.append(
            {
                "arm": arm, "role": role(found, classifier, scope, arm),
                "sources": found.sources.get(arm, ()),
                "same": [arm_title(other) for other in by[HEADLINE].same_run_as.split("; ") if other],
                "generated": generated(found, classifier, scope, arm),
                "seeds": len(by[HEADLINE].seeds.split()), "verdict": against[0].verdict if against[0] else "",
                "cells": [cell(by[HEADLINE]), *map(gain_cell, against), *others],
            }
        )  # fmt: skip
    heads = [measure_title(HEADLINE), *(f"over {arm_title(b)}" for b in bases), *map(measure_title, COLUMNS)]
    return {
        "scope": scope, "whole": scope == found.scopes[0], "folds": mine[0].folds.split(), "heads": heads,
        "rows": rows, "extent": f"{mine[0].images} test images of {mine[0].lesions} lesions",
    }  # fmt: skip


def role(found: Tables, classifier: str, scope: str, arm: str) -> str:
    combined, strongest = found.pair(classifier, scope)
    return {strongest: "strongest conventional", combined: "headline"}.get(arm, "")


def generated(found: Tables, classifier: str, scope: str, arm: str) -> int | None:
    """Generated images that the arm was given, over the scope's folds; None for an arm without a source."""
    splits = [f"fold-{fold}" for a in found.arms if (a.classifier, a.scope, a.arm, a.measure)
              == (classifier, scope, arm, HEADLINE) for fold in a.folds.split()]  # fmt: skip
    counts = [g.generated for g in found.given if (g.classifier, g.arm) == (classifier, arm)
              and g.split in splits]  # fmt: skip
    return sum(counts) if arm in found.sources else None


def images(found: Tables, classifier: str) -> list[dict[str, Any]]:
    """For each arm with generated images, and each split: those of each class, and the share kept."""
    out = []
    mine = [g for g in found.given if g.classifier == classifier and g.arm in found.sources]
    for (arm, split), rows in groupby(mine, key=lambda g: (g.arm, g.split)):
        cells = [(g.label, g.generated, "" if g.kept is None else f"{value(g.kept)}% kept") for g in rows]
        out.append({"arm": arm, "split": split.replace("-", " "), "cells": cells})
    return out


def cell(row: ArmRow | None) -> dict[str, Any]:
    """What a table shows, and what it is sorted by."""
    if row is None:
        return {"text": "–", "span": "", "sort": ""}
    return {"text": value(row.value, row.measure), "span": span(row.low, row.high, row.measure, signed=False),
            "sort": row.value}  # fmt: skip


def gain_cell(row: GainRow | None) -> dict[str, Any]:
    if row is None:
        return {"text": "–", "span": "", "sort": ""}
    return {"text": gain(row.gain, row.measure), "span": span(row.low, row.high, row.measure),
            "sort": row.gain}  # fmt: skip


def forests(
    found: Tables, classifier: str, scope: str, bases: Sequence[str], place: int
) -> list[dict[str, Any]]:
    """For each measure a figure per base."""
    out = []
    for measure in (HEADLINE, *COLUMNS):
        figures = []
        for base in bases:
            wanted = (classifier, scope, base, measure)
            rows = [g for g in found.gains if (g.classifier, g.scope, g.base, g.measure) == wanted]
            if rows:
                name = f"forest-{place}-{measure}-{base}"
                figures.append({"base": base, "svg": plots.inline(plots.forest(rows), name)})
        if figures:
            out.append({"measure": measure, "figures": figures})
    return out


def highlighted(found: Tables, classifier: str) -> list[str]:
    """The arms that figures tell apart: the plain, the strongest and the combined one."""
    combined, strongest = found.pair(classifier, next(iter(found.scopes), ""))
    return list(dict.fromkeys([PLAIN, strongest or PLAIN, combined or BEST]))


def loss_plot(found: Tables, classifier: str, place: int) -> str | None:
    losses = found.losses.get(classifier)
    return (
        plots.inline(plots.losses(losses, highlighted(found, classifier)), f"loss-{place}")
        if losses
        else None
    )


def recall_plot(found: Tables, classifier: str, scope: str, place: int) -> str | None:
    """Recall per class of the highlighted arms."""
    shown = highlighted(found, classifier)
    of_scope = [a for a in found.arms if (a.classifier, a.scope) == (classifier, scope)]
    rows = {arm: [a for a in of_scope if a.arm == arm and a.measure.startswith("recall_")] for arm in shown}
    labels = {c: f"{c} (n={images})" for c, (images, _) in found.classes.get(scope, {}).items() if images}
    rows = {arm: of_arm for arm, of_arm in rows.items() if of_arm}
    return plots.inline(plots.recalls(rows, labels), f"recall-{place}") if rows else None


def usual(found: Tables) -> list[dict[str, Any]]:
    """The split by image beside the one by lesion: accuracy, and what each arm gains over real images."""
    out = []
    for row in found.arms:
        if row.scope == BY_IMAGE and row.measure == "accuracy":
            same = (row.classifier, row.arm, row.measure)
            honest = next((a for a in found.arms if (a.classifier, a.arm, a.measure) == same
                           and a.scope != BY_IMAGE), None)  # fmt: skip
            gains = [found.gain(row.classifier, scope, row.arm, PLAIN, "accuracy")
                     for scope in (BY_IMAGE, *found.scopes[:1])]  # fmt: skip
            out.append({"classifier": row.classifier, "arm": row.arm,
                        "cells": [cell(row), gain_cell(gains[0]), cell(honest), *map(gain_cell, gains[1:])],
                        "verdicts": [g.verdict if g else "" for g in gains]})  # fmt: skip
    return out


def published(found: Tables) -> list[dict[str, Any]]:
    """For each classifier with published numbers: what differs, and a row per measure."""
    out = []
    for _, of_classifier in groupby(found.published, key=lambda row: row.classifier):
        rows = list(of_classifier)
        measures = [
            {"name": measure_title(row.measure), "published": value(row.published, row.measure),
             "here": value(row.value, row.measure),
             "span": span(row.low, row.high, row.measure, signed=False)}
            for row in rows
        ]  # fmt: skip
        out.append({"source": rows[0].source, "differs": rows[0].differs, "measures": measures})
    return out


def gaps(found: Tables) -> list[tuple[str, str, str, str]]:
    """Missing runs, seeds of one arm and cause together: classifier, arm, split and seeds, why."""
    same = groupby(found.missing, key=lambda g: (g.classifier, g.arm, g.split, g.why))
    return [(c, arm, f"{split}, seed {', '.join(str(g.seed) for g in of)}", why)
            for (c, arm, split, why), of in same]  # fmt: skip
