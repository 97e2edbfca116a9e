"""Writes the findings of an ingest, for people (report.md) and for programs (report.json)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from skin_gan.data.listing import Findings
from skin_gan.data.splits import N_FOLDS, assign_folds, split_parts
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError
from skin_gan.io import read_json

MEANING = {
    "missing": "named in the metadata, but there is no such file",
    "extra": "image files that the metadata does not name",
    "corrupt": "images that cannot be decoded",
    "non_image": "files among the images that are none",
    "truncated": "images that end too early",
    "duplicate": "the same id or the same picture twice; pictures that are equal join one group of the split",
}
SHOWN = 20  # cases of each kind in report.md; report.json has all


def report_json(findings: Findings, notes: Sequence[str], release: dict[str, int]) -> str:
    """The text of report.json: the number and the cases of each kind of finding, notes, the release."""
    cases = {name: {"count": len(lines), "cases": lines} for name, lines in asdict(findings).items()}
    return json.dumps({"findings": cases, "notes": list(notes), "release": release}, indent=1) + "\n"


def saved_findings(folder: Path) -> Findings:
    """The findings in a store's report.json; SkinGanError if the file is missing."""
    report = read_json(folder / "report.json")
    if report is None:
        raise SkinGanError(f"{folder} has no report.json: remove the store and ingest again")
    return Findings(**{name: found["cases"] for name, found in report["findings"].items()})


def report_md(
    store: Store, findings: Findings, rows: Sequence[dict[str, str]], release: dict[str, int]
) -> str:
    """The text of report.md."""
    state = "PARTIAL" if store.partial else "complete"
    lines = [f"# {store.name}: {store.extent} ({state})", ""]
    lines += [f"- source: {store.source['path']}", f"- fingerprint: {store.fingerprint}"]
    lines += [f"- {note}" for note in store.notes]
    lines += ["", *counts_table(store, release), "", *split_table(rows, store.grouped_by)]
    lines += ["", "## Checks", ""]
    for name, cases in asdict(findings).items():
        lines.append(f"- {name.replace('_', '-')}: {len(cases)} ({MEANING[name]})")
        lines += [f"  - {case}" for case in cases[:SHOWN]]
        if len(cases) > SHOWN:
            lines.append(f"  - ... and {len(cases) - SHOWN} more in report.json")
    return "\n".join(lines) + "\n"


def counts_table(store: Store, release: dict[str, int]) -> list[str]:
    """Images and lesions per class beside the release's, if known: lines of a Markdown table."""
    lines = [
        f"| class | images | {store.grouped_by} | release | short of it |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label in sorted({*store.counts, *release}):
        n, known = store.counts.get(label, 0), release.get(label)
        short = "" if known is None else str(known - n)
        lines.append(f"| {label} | {n} | {store.lesions.get(label, 0)} | {known or ''} | {short} |")
    return lines


def split_table(rows: Sequence[dict[str, str]], grouped_by: str, fold: int = 0) -> list[str]:
    """Images (and groups) per class in each part of one fold: lines of a Markdown table."""
    folds = assign_folds([r["group"] for r in rows], [r["dx"] for r in rows], N_FOLDS)
    parts = split_parts(folds, fold).tolist()
    placed = [(r["dx"], part, r["group"]) for r, part in zip(rows, parts, strict=True)]
    images = Counter((dx, part) for dx, part, _ in placed)
    groups = Counter((dx, part) for dx, part, _ in set(placed))
    lines = [f"Fold {fold}, images ({grouped_by}):", ""]
    lines += ["| class | train | val | test |", "| --- | --- | --- | --- |"]
    for label in sorted({r["dx"] for r in rows}):
        cells = [f"{images[label, p]} ({groups[label, p]})" for p in ("train", "val", "test")]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines
