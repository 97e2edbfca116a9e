"""What a layout module makes of SOURCE: which images there should be, where they are, what is wrong."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from skin_gan.data.files import READ_ERRORS, File
from skin_gan.errors import SkinGanError

LAYOUTS = (
    "HAM10000's official download (HAM10000_images_part_1 and _part_2 as zips or folders, with "
    "HAM10000_metadata, .csv or .tab), the ISIC challenge's (a folder of images with its one-hot "
    "ground-truth CSV), or one folder per class"
)


@dataclass
class Findings:
    """What the ingest found wrong: one line per case, beginning with the image's id or the file's path."""

    missing: list[str] = field(default_factory=list)  # named in the metadata, no file
    extra: list[str] = field(default_factory=list)  # an image that the metadata does not name
    corrupt: list[str] = field(default_factory=list)  # an image that cannot be decoded
    non_image: list[str] = field(default_factory=list)  # something else among the images
    truncated: list[str] = field(default_factory=list)  # an image that ends too early
    duplicate: list[str] = field(default_factory=list)  # the same id, or the same content, twice

    def counts(self) -> dict[str, int]:
        return {name: len(lines) for name, lines in asdict(self).items()}

    def first(self) -> str:
        """The first case of all, for a message; only where there is one."""
        return next(case for cases in asdict(self).values() for case in cases)

    def summary(self) -> str:
        """Such as "3 missing, 1 corrupt"; "" where nothing is wrong."""
        return ", ".join(f"{n} {name.replace('_', '-')}" for name, n in self.counts().items() if n)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the metadata says of one image."""

    image_id: str
    lesion_id: str = ""  # "" where the source knows none
    dx: str
    extra: dict[str, str] = field(default_factory=dict)  # the source's other columns


@dataclass(frozen=True, kw_only=True)
class Record(Row):
    """An image to be ingested."""

    file: File


RowT = TypeVar("RowT", bound=Row)


@dataclass
class Listing:
    """The images of SOURCE as its layout describes them."""

    kind: str
    name: str
    records: list[Record]
    findings: Findings
    notes: list[str] = field(default_factory=list)
    release: dict[str, int] = field(default_factory=dict)  # known images per class, where there is a release


@dataclass(frozen=True)
class Table:
    """A CSV or tab-separated file: its columns in lower case, and rows by column."""

    file: File
    columns: list[str]
    names: list[str]  # the columns as they are written
    rows: list[dict[str, str]]


def read_table(file: File) -> Table:
    """Read a table, its values stripped. UTF-8 with or without BOM; comma, semicolon or tab."""
    try:
        text = file.read().decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",\t;", key=first.count)
        header, *lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)) or [[]]
    except (*READ_ERRORS, UnicodeDecodeError, csv.Error) as e:
        raise SkinGanError(f"{file.path} cannot be read as a UTF-8 table ({e}): download it again") from e
    names = [name.strip() for name in header]
    columns = [name.lower() for name in names]
    if len(set(columns)) < len(columns):
        raise SkinGanError(f"{file.path} names a column twice: {', '.join(names)}")
    rows = []
    for number, line in enumerate(lines, 2):
        if not any(value.strip() for value in line):
            continue
        if len(line) != len(columns):
            raise SkinGanError(
                f"{file.path} line {number} has {len(line)} values, its header {len(columns)}: the file is "
                "cut or damaged, download it again"
            )
        rows.append(dict(zip(columns, (value.strip() for value in line), strict=True)))
    return Table(file, columns, names, rows)


def readable_tables(files: Iterable[File]) -> list[Table]:
    """All tables among the files. One that is damaged is passed over: it may belong to something else."""
    tables = []
    for file in files:
        if file.is_table:
            with contextlib.suppress(SkinGanError):
                tables.append(read_table(file))
    return tables


def non_images(files: Iterable[File]) -> list[str]:
    """A line for each file that is neither an image by its name nor what data sets put beside images."""
    return [
        f"{f.path}: no image by its name" for f in files if not (f.is_image or f.is_table or f.is_companion)
    ]


def unique(rows: Iterable[Row], findings: Findings, table: Table) -> list[Row]:
    """The rows with each image once; an image described in two ways is an error."""
    found: dict[str, Row] = {}
    for row in rows:
        first = found.setdefault(row.image_id.lower(), row)
        if first is row:
            continue
        if (first.dx, first.lesion_id) != (row.dx, row.lesion_id):
            raise SkinGanError(
                f"{table.file.path} lists {row.image_id} as {first.dx} {first.lesion_id} and as {row.dx} "
                f"{row.lesion_id}: an image has one class and one lesion, correct the file"
            )
        findings.duplicate.append(f"{row.image_id}: listed again in {table.file.path}")
    return list(found.values())


def match(
    rows: Sequence[Row], files: Sequence[File], classes: Sequence[str], findings: Findings
) -> list[Record]:
    """Bring rows and image files together by the file's name; of `classes` only, where there are any."""
    images: dict[str, File] = {}
    for file in files:
        first = images.setdefault(file.path.stem.lower(), file)
        if first is not file:
            findings.duplicate.append(f"{file.path.stem}: {file.path} repeats {first.path}, which is used")
    known = {row.image_id.lower() for row in rows}
    findings.extra += [f"{f.path.stem}: {f.path}" for stem, f in images.items() if stem not in known]
    records = []
    for row in only(rows, classes):
        if row.image_id.lower() in images:
            records.append(Record(**vars(row), file=images[row.image_id.lower()]))
        else:
            findings.missing.append(f"{row.image_id}: {row.dx}")
    return records


def only(rows: Sequence[RowT], classes: Sequence[str]) -> list[RowT]:
    """The rows of `classes`, or all where none is chosen; a class that has no row is an error."""
    present = sorted({row.dx for row in rows})
    unknown = [c for c in classes if c not in present]
    if unknown:
        raise SkinGanError(
            f"--classes {' '.join(unknown)}: not in the source, which has {', '.join(present)}"
        )
    return [row for row in rows if not classes or row.dx in classes]
