"""Writes the sweep's page, report/index.html, which is self-contained. No torch.

Its inputs are the tables, leakage.csv, sheets.json with the sheets, the leaderboard, the trials' metrics and
provenance.json. Sections of missing files are left out.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from hpc.plan.ablation import Choice
from hpc.report import plots
from hpc.report.comparisons import ArmRow, GainRow
from hpc.report.endpoints import endpoint_rows, late
from hpc.report.statement import Statement, controls, limits, statement
from hpc.report.tables import BY_IMAGE, HEADLINE, LEAKS, PLAIN, Cost, Tables, read_csv
from hpc.report.wording import (
    ADJUSTED,
    MINIMUM,
    OF_TRIALS,
    SOURCES,
    THRESHOLD,
    arm_title,
    class_title,
    gain,
    measure_title,
    number,
    span,
    unit,
    value,
)
from hpc.settings import compose
from hpc.settings.ablation import BEST
from hpc.settings.compose import Experiment
from hpc.stages.select import dispute, word_of
from hpc.state import endpoints
from hpc.state.confirmed import TABLE, told
from hpc.state.endpoints import ADJUSTMENT, HELD_OUT
from hpc.state.provenance import code_of
from skin_gan.ablation.measures import DECIDING, REALISED, SENSITIVITY
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.generator import CARD, NOTICE, read_card
from skin_gan.identity import content_hash
from skin_gan.io import read_json, read_jsonl, write_atomic, write_json
from skin_gan.metrics.scores.checkerboard import against_real

TEMPLATES = Path(__file__).parent / "templates"
SPLIT = "split.json"  # how much a split by image leaks, see `skin_gan.ablation.parts.Leak`
COLUMNS = ("accuracy", "macro_auc", "ece", SENSITIVITY, REALISED)  # beside balanced accuracy


def write_report(
    run: RunFolder, found: Tables, cost: Sequence[Cost], folder: Path, photographs: bool = True
) -> Path:
    """Write `folder`/index.html, without `photographs` with generated images only.

    `folder`/verdict.json has its first sentences for the terminal.
    """
    page, values = folder / "index.html", context(run, found, cost, folder, photographs)
    first: Statement = values["statement"]
    write_json(folder / "verdict.json", {"verdict": first.word, "sentences": [first.sentence, *first.beside]})
    write_atomic(page, render("report.html.j2", values))
    return page


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a template."""
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
    """The values of the page's template."""
    e = compose.load(run.settings)
    made = read_json(run.provenance) or {}
    data = made.get("data", {})
    leaks = read_csv(folder / LEAKS)
    caught = [row for row in leaks if row["caught"] == "True"]
    trials = read_csv(run.leaderboard)
    fixed = endpoints.read(run)
    first = statement(found, caught, data)
    first.warnings.extend(late(fixed))
    return {
        "endpoints": endpoint_rows(found, fixed), "sequence": ADJUSTMENT,
        "title": e.about or e.sweep, "run": run.path.name, "data": data, "notice": NOTICE,
        "source": SOURCES.get(data.get("kind", ""), ""), "statement": first,
        "panels": [panel(found, c, i) for i, c in enumerate(found.classifiers)], "missing": gaps(found),
        "leaks": leaks, "usual": usual(found), "published": published(found),
        "leak": read_json(folder / SPLIT), "photographs": photographs,
        "sheets": sheets(folder, photographs), "curves": training(run, e),
        "best": chosen(run, e), "trials": trials, "cost": cost,
        "told": told(run, e), "confirmed": read_csv(run.path / TABLE) if e.confirm.seeds else [],
        "disputes": [f"{row['class']}: {said}" for row in trials if (said := dispute(row))],
        "searched": [name for name in next(iter(trials), {}) if "." in name],
        "quiz": (folder / "quiz.html").exists(),
        "adjusted": ADJUSTED, "threshold": THRESHOLD,
        "minimum": OF_TRIALS if e.confirm.seeds else MINIMUM,
        "hours": sum(c.device_hours for c in cost),
        "provenance": origin(run, e, made),
        "settings": settings(e, data),
        "limits": limits(found, data),
    }  # fmt: skip


# ---- tables and figures of one classifier ---------------------------------------------------------------


def panel(found: Tables, classifier: str, place: int) -> dict[str, Any]:
    """The tables and figures of one classifier, for each scope by lesion."""
    scopes = [s for s in found.scopes if any((a.classifier, a.scope) == (classifier, s) for a in found.arms)]
    tested = {a.scope for a in found.arms if a.classifier == classifier}
    return {
        "name": classifier, "place": place,
        "strongest": found.pair(classifier, scopes[0])[1] if scopes else "",
        "choices": [(fold, chosen, heads(chosen), ranked(chosen))
                    for fold, chosen in sorted(found.choices.get(classifier, {}).items())],
        "tables": [table(found, classifier, scope) for scope in scopes],
        "others": [table(found, classifier, scope) for scope in (HELD_OUT, OUTSIDE) if scope in tested],
        "forests": forests(found, classifier, scopes[0], place) if scopes else [],
        "recalls": recall_plot(found, classifier, scopes[0], place) if scopes else None,
        "images": images(found, classifier),
        "losses": loss_plot(found, classifier, place),
        "classes": found.classes.get(scopes[0], {}) if scopes else {},
        "controls": [said for name, said, _ in controls(found) if name == classifier],
    }  # fmt: skip


def ranked(chosen: Choice) -> list[tuple[str, list[str]]]:
    """The arms of a choice with their values on validation images in the order of `heads`, the best first."""
    known = chosen.get("measured") or {
        arm: {HEADLINE: share} for arm, share in (chosen.get("validation") or {}).items()
    }
    by = chosen.get("by", HEADLINE)
    of_arms = sorted(known.items(), key=lambda pair: -DECIDING[by] * pair[1][by])
    return [(arm_title(arm), [value(x, name) for name, x in of_arm.items()]) for arm, of_arm in of_arms]


def heads(chosen: Choice) -> list[str]:
    """The names of the measures of `ranked`."""
    names = next(iter((chosen.get("measured") or {}).values()), {HEADLINE: 0.0})
    return [f"{measure_title(name)}{', %' if unit(name)[0] == 100 else ''}" for name in names]


def table(found: Tables, classifier: str, scope: str) -> dict[str, Any]:
    """A row per arm: its values, its gain over each base, its verdict against the first."""
    rows, bases = [], found.bases(classifier, scope)[::-1]
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
        "scope": scope, "whole": scope in found.scopes[:1], "folds": mine[0].folds.split(), "heads": heads,
        "rows": rows, "extent": f"{mine[0].images} test images of {mine[0].lesions} lesions",
    }  # fmt: skip


def role(found: Tables, classifier: str, scope: str, arm: str) -> str:
    """The label of the two arms of the headline's comparison; "" for others."""
    combined, strongest = found.pair(classifier, scope)
    return {strongest: "strongest conventional", combined: "headline"}.get(arm, "")


def generated(found: Tables, classifier: str, scope: str, arm: str) -> int | None:
    """The number of generated images in the arm, over the scope's folds; None if the arm has no source."""
    splits = [f"fold-{fold}" for a in found.arms if (a.classifier, a.scope, a.arm, a.measure)
              == (classifier, scope, arm, HEADLINE) for fold in a.folds.split()]  # fmt: skip
    counts = [g.generated for g in found.given if (g.classifier, g.arm) == (classifier, arm)
              and g.split in splits]  # fmt: skip
    return sum(counts) if arm in found.sources else None


def images(found: Tables, classifier: str) -> list[dict[str, Any]]:
    """For each arm with generated images and each split: the images of each class, and the share kept."""
    out = []
    mine = [g for g in found.given if g.classifier == classifier and g.arm in found.sources]
    for (arm, split), rows in groupby(mine, key=lambda g: (g.arm, g.split)):
        cells = [(g.label, g.generated, "" if g.kept is None else f"{value(g.kept)}% kept") for g in rows]
        out.append({"arm": arm, "split": split.replace("-", " "), "cells": cells})
    return out


def cell(row: ArmRow | None) -> dict[str, Any]:
    """A cell of a table: its text, its interval, and its sort key."""
    if row is None:
        return {"text": "–", "span": "", "sort": ""}
    return {"text": value(row.value, row.measure), "span": span(row.low, row.high, row.measure, signed=False),
            "sort": row.value}  # fmt: skip


def gain_cell(row: GainRow | None) -> dict[str, Any]:
    """The cell of a gain."""
    if row is None:
        return {"text": "–", "span": "", "sort": ""}
    return {"text": gain(row.gain, row.measure), "span": span(row.low, row.high, row.measure),
            "sort": row.gain}  # fmt: skip


def forests(found: Tables, classifier: str, scope: str, place: int) -> list[dict[str, Any]]:
    """The figures of gains: for each measure one per base."""
    out = []
    for measure in (HEADLINE, *COLUMNS):
        figures = []
        for base in found.bases(classifier, scope)[::-1]:
            wanted = (classifier, scope, base, measure)
            rows = [g for g in found.gains if (g.classifier, g.scope, g.base, g.measure) == wanted]
            if rows:
                name = f"forest-{place}-{measure}-{base}"
                figures.append({"base": base, "svg": plots.inline(plots.forest(rows), name)})
        if figures:
            out.append({"measure": measure, "figures": figures})
    return out


def highlighted(found: Tables, classifier: str) -> list[str]:
    """The arms that figures highlight: the plain, the strongest and the combined one."""
    combined, strongest = found.pair(classifier, next(iter(found.scopes), ""))
    return list(dict.fromkeys([PLAIN, strongest or PLAIN, combined or BEST]))


def loss_plot(found: Tables, classifier: str, place: int) -> str | None:
    """Training loss of all arms; None if no loss was recorded."""
    if not (losses := found.losses.get(classifier)):
        return None
    return plots.inline(plots.losses(losses, highlighted(found, classifier)), f"loss-{place}")


def recall_plot(found: Tables, classifier: str, scope: str, place: int) -> str | None:
    """Recall per class of the highlighted arms."""
    shown = highlighted(found, classifier)
    of_scope = [a for a in found.arms if (a.classifier, a.scope) == (classifier, scope)]
    rows = {arm: [a for a in of_scope if a.arm == arm and a.measure.startswith("recall_")] for arm in shown}
    labels = {c: f"{c} (n={images})" for c, (images, _) in found.classes.get(scope, {}).items() if images}
    rows = {arm: of_arm for arm, of_arm in rows.items() if of_arm}
    return plots.inline(plots.recalls(rows, labels), f"recall-{place}") if rows else None


def usual(found: Tables) -> list[dict[str, Any]]:
    """Accuracy and gain over real images of each arm, with the split by image beside that by lesion."""
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
    """For each classifier with published results: the differences of setting, and a row per measure."""
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
    """Missing runs as classifier, arm, split and seeds, cause; seeds with the same cause are joined."""
    groups = groupby(found.missing, key=lambda g: (g.classifier, g.arm, g.split, g.why))
    return [(c, arm, f"{split}, seed {', '.join(str(g.seed) for g in gaps)}", why)
            for (c, arm, split, why), gaps in groups]  # fmt: skip


SHEETS = "sheets.json"


def data_uri(path: Path) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def sheets(folder: Path, photographs: bool) -> list[dict[str, Any]]:
    """Each class's sheet of generated images, and with `photographs` the sheet of nearest pairs."""
    found: list[dict[str, Any]] = []
    for entry in (read_json(folder / SHEETS) or {"sheets": []})["sheets"]:
        shown = {"generated": data_uri(folder / entry["generated"]), "nearest": ""}
        if photographs:
            shown["nearest"] = data_uri(folder / entry["nearest"])
        found.append({**entry, **shown, "copies": sum(pair["copy"] for pair in entry["pairs"])})
    return found


def cards(run: RunFolder, e: Experiment) -> dict[str, dict[str, Any]]:
    """The cards of the chosen generators, by class."""
    found = {}
    for label in e.classes:
        try:
            found[label] = read_card(run.best(label) / CARD)
        except SkinGanError:  # none is selected yet; the page shows the trials
            continue
    return found


def chosen(run: RunFolder, e: Experiment) -> list[dict[str, Any]]:
    """A row per class about its selected generator."""
    return [
        {"class": label, "trial": c["trial"][:4], "kimg": c["kimg"], "selection": word_of(c),
         "confirmed": c.get("confirmed", False), "reasons": "; ".join(c["reasons"]),
         "checkerboards": against_real(c["metrics"]), **c["metrics"]}
        for label, c in cards(run, e).items()
    ]  # fmt: skip


def training(run: RunFolder, e: Experiment) -> list[str]:
    """A figure per class of its trials' KID during training."""
    best = {label: card["trial"] for label, card in cards(run, e).items()}
    figures = []
    for label in e.classes:
        trials = []
        for folder in sorted((run.trials / label).glob("[0-9]*")):
            rows = [row for row in read_jsonl(folder / "metrics.jsonl") if row.get("kid") is not None]
            if rows:
                trials.append((folder.name, [r["kimg"] for r in rows], [r["kid"] for r in rows]))
        if trials:
            figures.append(plots.inline(plots.curves(label, trials, best.get(label, "")), f"curve-{label}"))
    return figures


def origin(run: RunFolder, e: Experiment, made: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The sweep's data, settings, code and machine, without the machine's name and paths."""
    data = made.get("data")
    if not data:
        return [("sweep", run.path.name), ("missing", "provenance.json")]
    launches = read_jsonl(run.path / "launches.jsonl")
    settings = content_hash([dataclasses.asdict(e.trial), dataclasses.asdict(e.search)])
    return [
        ("sweep", f"{e.sweep}, {run.path.name}"),
        ("data", f"{data['name']}{', a partial copy of the release' if data['partial'] else ''}: "
                 f"{sum(data['counts'].values())} images, fingerprint {data['fingerprint']}"),
        ("split", f"by {data['unit']}; settings searched on fold {e.fold}"),
        ("settings", f"hash {settings}, seed {e.seed}, budget {e.budget}"),
        ("code", f"{code_of(made)}; frozen as "
                 f"{', '.join(dict.fromkeys(row['code'] for row in launches)) or 'unknown'}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in made["packages"].items())),
        ("machine", f"{made['machine']['cores']} cores, {made['machine']['system']}"),
        ("Python", made["python"]),
    ]  # fmt: skip


def settings(e: Experiment, data: Mapping[str, Any]) -> str:
    """The resolved settings as YAML, without the folders and the profile of this machine."""
    values = dataclasses.asdict(e)
    for name in ("results", "profile", "dry_run", "show", "limit"):
        del values[name]
    values["cluster"] = Path(e.cluster).stem  # it may be the path of a profile
    values["data"] = data.get("name", "")
    values["ablate"]["external"] = Path(e.ablate.external).name
    values["ablate"]["sources"] = {name: Path(path).name for name, path in e.ablate.sources.items()}
    return yaml.safe_dump(values, sort_keys=False, width=100)


def write_quiz(
    path: Path,
    images: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    name: str,
    seed: int = 0,
    each: int = 10,
) -> None:
    """Write a quiz of real and generated images of each class, at most `each` of a kind, as many of both.

    `images`: real and generated images by class, each uint8 [N,3,S,S].
    """
    rng = np.random.default_rng(seed)
    cards: list[dict[str, Any]] = []
    for label, (real, generated) in images.items():
        n = min(each, len(real), len(generated))
        for kind, of_kind in (("real", real), ("generated", generated)):
            chosen = of_kind[rng.permutation(len(of_kind))[:n]]
            cards += [{"class": label, "real": kind == "real", "image": png(x)} for x in chosen]
    order = rng.permutation(len(cards))
    shuffled = [cards[i] for i in order]
    classes = [label for label in images if any(c["class"] == label for c in cards)]
    write_atomic(path, render("quiz.html.j2", {"cards": shuffled, "classes": classes, "name": name}))


def png(image: NDArray[np.uint8]) -> str:
    """uint8 [3,S,S] as a PNG in base64, without metadata that would reveal its kind."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
