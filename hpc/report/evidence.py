"""What the report shows beside the classifiers' numbers: generators, sheets, provenance. No torch."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hpc.config import Experiment
from hpc.provenance import code_of
from hpc.report import plots
from hpc.selection import word_of
from skin_gan.errors import SkinGanError
from skin_gan.export import CARD, read_card
from skin_gan.folders import RunFolder
from skin_gan.identity import content_hash
from skin_gan.io import read_json, read_jsonl

SHEETS = "sheets.json"


def data_uri(path: Path) -> str:
    """A PNG as text that a page can hold."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def sheets(folder: Path, photographs: bool) -> list[dict[str, Any]]:
    """Each class's sheet of generated images, and with `photographs` that of their nearest ones."""
    found: list[dict[str, Any]] = []
    for entry in (read_json(folder / SHEETS) or {"sheets": []})["sheets"]:
        shown = {"generated": data_uri(folder / entry["generated"]), "nearest": ""}
        if photographs:
            shown["nearest"] = data_uri(folder / entry["nearest"])
        found.append({**entry, **shown, "copies": sum(pair["copy"] for pair in entry["pairs"])})
    return found


def cards(run: RunFolder, e: Experiment) -> dict[str, dict[str, Any]]:
    """The card of each class's chosen generator, of those there are."""
    found = {}
    for label in e.classes:
        try:
            found[label] = read_card(run.best(label) / CARD)
        except SkinGanError:  # not chosen yet: the page shows the trials all the same
            continue
    return found


def chosen(run: RunFolder, e: Experiment) -> list[dict[str, Any]]:
    """A row per class: the generator that the selection took."""
    return [
        {"class": label, "trial": c["trial"][:4], "kimg": c["kimg"], "selection": word_of(c),
         "reasons": "; ".join(c["reasons"]), **c["metrics"]}
        for label, c in cards(run, e).items()
    ]  # fmt: skip


def training(run: RunFolder, e: Experiment) -> list[str]:
    """A figure per class: KID over the training of its trials."""
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


def provenance(run: RunFolder, e: Experiment, made: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run on what; no name or path of a machine."""
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
    for name in ("results", "profile", "dry_run"):
        del values[name]
    values["data"] = data.get("name", "")
    values["ablate"]["sources"] = {name: Path(path).name for name, path in e.ablate.sources.items()}
    return yaml.safe_dump(values, sort_keys=False, width=100)
