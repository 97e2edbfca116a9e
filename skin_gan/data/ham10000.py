"""HAM10000 as it is released: two parts of images, one table (Tschandl 2018, doi:10.7910/DVN/DBW86T)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from skin_gan.data.files import IMAGE_SUFFIXES, File
from skin_gan.data.listing import (
    Findings,
    Listing,
    Row,
    Table,
    match,
    non_images,
    read_table,
    readable_tables,
    unique,
)
from skin_gan.errors import SkinGanError

RELEASE = {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}  # images
REQUIRED = ("lesion_id", "image_id", "dx")
KNOWN = (*REQUIRED, "dx_type", "age", "sex", "localization", "dataset")
PART = re.compile(r"HAM10000_images_part_?\d+(\.zip)?", re.IGNORECASE)  # mirrors write part1 or part_1


def read(files: Sequence[File], classes: Sequence[str]) -> Listing | None:
    """The official layout's listing, or None if SOURCE is laid out otherwise."""
    parts = [f for f in files if _part(f.path)]
    table = _metadata(files)
    if table is None:
        if parts:
            raise SkinGanError(
                f"SOURCE has {_part(parts[0].path)} but no HAM10000_metadata(.csv, .tab): put the release's "
                "table beside the images and give their common folder"
            )
        return None
    findings, notes = Findings(), _notes(table)
    if parts:
        kept = _without_twins(parts, notes)
        kept += [f for f in files if f.path.parent == table.file.path.parent and not _part(f.path)]
        passed = {f.path.parts[0] for f in files} - {f.path.parts[0] for f in kept}
        if passed:
            notes.append(f"passed over, not part of the images: {', '.join(sorted(passed))}")
    else:
        kept = list(files)
    findings.non_image += non_images(f for f in kept if not _is_metadata_name(f.path))
    rows = unique(map(_row, table.rows), findings, table)
    _check_classes(rows, table)
    if len(rows) < len(table.rows):
        notes.append(
            f"{table.file.path} has {len(table.rows)} rows for {len(rows)} images: a mirror that "
            "repeats images; each is used once, the official release has 10,015"
        )
    records = match(rows, [f for f in kept if f.is_image], classes, findings)
    release = {label: n for label, n in RELEASE.items() if not classes or label in classes}
    return Listing("ham10000", "ham10000", records, findings, notes, release)


def _metadata(files: Sequence[File]) -> Table | None:
    """The release's table: by its name, else any table with its columns."""
    named = [f for f in files if _is_metadata_name(f.path)]
    if named:
        table = read_table(min(named, key=lambda f: (len(f.path.parts), str(f.path))))
        missing = [c for c in REQUIRED if c not in table.columns]
        if missing:
            unknown = [c for c in table.names if c.lower() not in KNOWN]
            raise SkinGanError(
                f"{table.file.path} lacks the column {', '.join(missing)}"
                f"{' and has the unknown ' + ', '.join(unknown) if unknown else ''}: "
                f"expected {', '.join(KNOWN)}"
            )
        return table
    return next((t for t in readable_tables(files) if set(REQUIRED) <= set(t.columns)), None)


def _is_metadata_name(path: PurePosixPath) -> bool:
    return path.stem.lower() == "ham10000_metadata" and path.suffix.lower() in (
        "",
        ".csv",
        ".tab",
        ".tsv",
        ".txt",
    )


def _notes(table: Table) -> list[str]:
    unknown = [c for c in table.columns if c not in KNOWN]
    return [f"columns that the release does not have are kept: {', '.join(unknown)}"] if unknown else []


def _row(values: dict[str, str]) -> Row:
    image_id = values["image_id"]
    stem, dot, suffix = image_id.rpartition(".")
    if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES:
        image_id = stem
    extra = {c: v for c, v in values.items() if c not in REQUIRED}
    return Row(image_id=image_id, lesion_id=values["lesion_id"], dx=values["dx"].lower(), extra=extra)


def _check_classes(rows: Sequence[Row], table: Table) -> None:
    if not rows:
        raise SkinGanError(f"{table.file.path} has no rows: download it again")
    unknown = Counter(row.dx for row in rows if row.dx not in RELEASE)
    if unknown:
        named = ", ".join(f"{label!r} in {n} rows" for label, n in unknown.most_common(5))
        raise SkinGanError(
            f"{table.file.path}: unknown class in dx: {named}; HAM10000 has {', '.join(RELEASE)}"
        )
    blank = sum(not (row.image_id and row.lesion_id) for row in rows)
    if blank:
        raise SkinGanError(
            f"{table.file.path}: {blank} rows without image_id or lesion_id: download it again"
        )


def _part(path: PurePosixPath) -> PurePosixPath | None:
    """The folder of the image part that `path` lies in."""
    for folder in reversed(path.parents):
        if PART.fullmatch(folder.name):
            return folder
    return None


def _without_twins(files: Sequence[File], notes: list[str]) -> list[File]:
    """Of a part that is there twice (zip and folder, or Kaggle's two spellings) only the first."""
    folders: dict[PurePosixPath, list[File]] = {}
    for file in files:
        if folder := _part(file.path):
            folders.setdefault(folder, []).append(file)
    kept: dict[frozenset[tuple[str, int]], PurePosixPath] = {}
    result = []
    for folder, members in folders.items():
        content = frozenset((f.path.name, f.size) for f in members)
        first = kept.setdefault(content, folder)
        if first is folder:
            result += members
        else:
            notes.append(f"{folder} holds the same files as {first} and was passed over")
    return result
