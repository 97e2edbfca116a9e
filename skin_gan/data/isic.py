"""The ISIC challenge's layout: a folder of images and a ground-truth CSV with one 0/1 column per class.

The classes are the columns that the data uses. Lesions are known where a table beside it gives them, such as
ISIC2018_Task3_Training_LesionGroupings.csv or ISIC_2019_Training_Metadata.csv; else the unit is the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from skin_gan.data.files import File
from skin_gan.data.listing import Findings, Listing, Row, Table, match, non_images, readable_tables, unique
from skin_gan.errors import SkinGanError

IMAGE_COLUMNS = ("image", "image_name", "image_id", "isic_id")


def read(files: Sequence[File], classes: Sequence[str]) -> Listing | None:
    """The challenge layout's listing, or None if SOURCE has no ground truth."""
    tables = readable_tables(files)
    truths = [t for t in tables if _image(t) and (_one_hot(t) or "groundtruth" in t.file.path.stem.lower())]
    if not truths:
        return None
    findings, notes = Findings(), []
    rows = unique([row for t in truths for row in _rows(t)], findings, truths[0])
    for table in tables:
        if table not in truths and _image(table) and "lesion_id" in table.columns:
            rows = _with_lesions(rows, table)
            notes.append(f"lesions from {table.file.path.name}")
    findings.non_image += non_images(files)
    records = match(rows, [f for f in files if f.is_image], classes, findings)
    return Listing("isic", "isic", records, findings, notes)


def _image(table: Table) -> str:
    """The column that names the image, or ""."""
    return next((c for c in IMAGE_COLUMNS if c in table.columns), "")


def _one_hot(table: Table) -> list[str]:
    """The columns that hold nothing but 0 and 1, if there are two at least and every row has a single 1."""
    columns = _binary(table)
    single = all(sum(_is_one(row[c]) for c in columns) == 1 for row in table.rows)
    return columns if table.rows and len(columns) > 1 and single else []


def _binary(table: Table) -> list[str]:
    image = _image(table)
    found = []
    for column in table.columns:
        values = {row[column] for row in table.rows}
        if column != image and "weight" not in column and values <= {"0", "1", "0.0", "1.0"}:
            found.append(column)
    return found


def _is_one(value: str) -> bool:
    return value in ("1", "1.0")


def _rows(table: Table) -> list[Row]:
    image, columns = _image(table), _one_hot(table)
    if not columns:
        raise SkinGanError(_why_not(table))
    written = dict(zip(table.columns, table.names, strict=True))
    rows = []
    for values in table.rows:
        label = next(c for c in columns if _is_one(values[c]))
        extra = {c: v for c, v in values.items() if c not in (image, *columns)}
        rows.append(Row(image_id=values[image], dx=written[label], extra=extra))
    return rows


def _why_not(table: Table) -> str:
    columns = _binary(table)
    name = table.file.path
    if len(columns) < 2:
        return (
            f"{name} is no ground truth: expected an image column and at least two class columns of 0 and 1, "
            f"its columns are {', '.join(table.names)}"
        )
    image = _image(table)
    wrong = [row[image] for row in table.rows if sum(_is_one(row[c]) for c in columns) != 1]
    return (
        f"{name}: {len(wrong)} images without exactly one class among {', '.join(columns)}, such as "
        f"{', '.join(wrong[:3])}: correct the file, or download it again"
    )


def _with_lesions(rows: Sequence[Row], table: Table) -> list[Row]:
    image = _image(table)
    known = {values[image].lower(): values for values in table.rows}
    result = []
    for row in rows:
        values = known.get(row.image_id.lower(), {})
        extra = {c: v for c, v in values.items() if c not in (image, "lesion_id")}
        lesion = values.get("lesion_id", "") or row.lesion_id
        result.append(replace(row, lesion_id=lesion, extra=row.extra | extra))
    return result
