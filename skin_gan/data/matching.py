"""Matches the rows of a table with the image files of SOURCE."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from skin_gan.data.files import File
from skin_gan.data.listing import Findings, Record, Row, only
from skin_gan.data.photographs import Photographs, choose, copy_line
from skin_gan.data.source import Source
from skin_gan.data.words import is_derived


def match(rows: Sequence[Row], source: Source, pool: Sequence[File], findings: Findings) -> list[Record]:
    """The rows with their photographs from `pool`, of the chosen classes; the rest goes to `findings`."""
    allowed = {f.path for f in pool}
    candidates = {
        row.image_id: [f for f in source.images.named(row.image_id) if f.path in allowed] for row in rows
    }
    named = {f.path for files in candidates.values() for f in files}
    findings.extra += [f"{f.path.stem}: {f.path}" for f in pool if f.path not in named]
    # A file that looks like a mask or a copy by its name is a photograph if the table names it.
    reserve = Photographs([c for c, _ in source.images.copies] + source.images.derived)
    used: set[PurePosixPath] = set()
    records, twins = [], []
    for row in only([row for row in rows if row.dx], source.classes):
        files = candidates[row.image_id]
        if not files:
            others = reserve.named(row.image_id)
            files = [f for f in others if not any(map(is_derived, f.path.parent.parts))]
            used |= {f.path for f in files}
        if not files:
            note = f" (only {others[0].path}, a mask or thumbnail by its name)" if others else ""
            findings.missing.append(f"{row.image_id}: {row.dx}{note}")
            continue
        choice = choose(row.image_id, files)
        twins += [(twin, choice.file) for twin in choice.twins]
        findings.duplicate += [
            f"{row.image_id}: {f.path} is passed over ({why}), {choice.file.path} is used"
            for f, why in choice.others
        ]
        records.append(Record(**{**vars(row), "file": choice.file}))
    findings.duplicate += [copy_line(c, o) for c, o in source.images.copies if c.path not in used]
    _report_twins(twins, pool, source.images.notes, findings)
    return records


def _report_twins(
    twins: Sequence[tuple[File, File]], pool: Sequence[File], notes: list[str], findings: Findings
) -> None:
    """Add a note for each folder that holds only copies of another's files, and findings for other copies."""
    size = Counter(f.path.parent for f in pool)
    doubled = Counter(twin.path.parent for twin, _ in twins)
    whole = {folder for folder, n in doubled.items() if n == size[folder]}
    for folder in sorted(whole):
        first = next(used.path.parent for twin, used in twins if twin.path.parent == folder)
        notes.append(f"{folder} holds the same files as {first} and was passed over")
    findings.duplicate += [
        f"{twin.path.stem}: {twin.path} repeats {used.path}, which is used"
        for twin, used in twins
        if twin.path.parent not in whole
    ]


def in_part(file: File, parts: re.Pattern[str]) -> bool:
    """Whether the file is in a folder whose name matches `parts`."""
    return any(map(parts.fullmatch, file.path.parent.parts))
