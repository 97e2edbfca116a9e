"""Reads the user's own data: any images, and a table whose columns the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skin_gan.data.files import File, outside
from skin_gan.data.layout import Layout, image_ids, key_columns, require_one_unit, unit_keys, used_note
from skin_gan.data.listing import Listing, Record, Row
from skin_gan.data.source import Source
from skin_gan.data.tables import Table, Tables, read_table
from skin_gan.data.units import grouped
from skin_gan.data.words import column_key, is_missing, truth
from skin_gan.errors import SkinGanError


@dataclass(frozen=True)
class Columns:
    """The user's description of a table: its file, and the columns of image, class and units."""

    table: str = ""  # a path, or a path inside SOURCE; "": no table
    id: str = ""
    label: str = ""  # a column, or several of 0 and 1 with commas; "": folders are the classes
    group: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The same as options of the command line."""
        values = {"table": self.table, "id": self.id, "label": self.label, "group": ",".join(self.group)}
        return [word for name, value in values.items() if value for word in (f"--{name}", value)]


def table_file(columns: Columns, source: Path, files: Sequence[File]) -> tuple[File, bool]:
    """The file that --table names, by a path or the end of a path in SOURCE; and whether it is in SOURCE."""
    path = Path(columns.table).expanduser()
    inside = columns.table.replace("\\", "/").removeprefix("./")
    if path.is_file():
        real = path.resolve()
        same = next((f for f in files if f.disk is not None and f.disk.resolve() == real), None)
        return (same, True) if same else (outside(path), False)
    found = [f for f in files if str(f.path) == inside]
    found = found or [f for f in files if str(f.path).endswith(f"/{inside}")]
    if len(found) == 1:
        return found[0], True
    if found:
        raise SkinGanError(
            f"--table {columns.table} is both {found[0].path} and {found[1].path}: give the path"
        )
    tables = [str(f.path) for f in files if f.is_table]
    there = f"; {source} holds the tables {', '.join(tables[:5])}" if tables else ""
    raise SkinGanError(f"--table {columns.table}: there is no such file, here or in SOURCE{there}")


def find(source: Source, columns: Columns, file: File) -> Listing:
    """The listing of the images in the table, with its classes and units."""
    table, layout = _read(columns, file)
    for other in source.tables.read:
        if other.file.path != file.path:
            source.tables.unused[other.name] = f"--table names {file.path}"
    source.tables.unused.pop(str(file.path), None)
    listing = layout.find(replace(source, tables=Tables([table], source.tables.unused)))
    assert listing is not None  # `_read` has found the columns in its one table
    return replace(listing, name=source.name)


def add_units(listing: Listing, source: Source, columns: Columns, file: File) -> Listing:
    """The listing of class folders with lesions and patients from the table."""
    table, layout = _read(columns, file)
    keys = key_columns(table, layout.groups)
    if not keys:
        raise SkinGanError(
            f"--table {columns.table} without --label: folders give the classes, and --group has to say "
            f"which of its columns names lesion or patient: {', '.join(table.names)}"
        )
    source.tables.unused.pop(table.name, None)
    place = {record.file.path: i for i, record in enumerate(listing.records)}
    ids = image_ids(table, layout.image[0])
    require_one_unit(table, ids, keys)
    matched = False
    rows = [Row(**{k: v for k, v in vars(r).items() if k != "file"}) for r in listing.records]
    for image_id, (_, values) in zip(ids, table.rows(), strict=True):
        files = [f for f in source.images.named(image_id) if f.path in place]
        if len(files) > 1:
            raise SkinGanError(
                f"{table.name}: {image_id} is both {files[0].path} and {files[1].path}: name images "
                "with their folders"
            )
        if files:
            matched, i = True, place[files[0].path]
            rows[i] = replace(rows[i], keys=unit_keys(values, keys))
        else:
            listing.findings.missing.append(f"{image_id}: named in {table.name}")
    if not matched:
        raise SkinGanError(f"none of the images that {table.name} names is there, such as {ids[0]}")
    records = [
        Record(**{**vars(row), "file": record.file})
        for row, record in zip(grouped(rows), listing.records, strict=True)
    ]
    notes = [*listing.notes, used_note(table, layout.image[0], "", keys)]
    return replace(listing, records=records, notes=notes)


def _read(columns: Columns, file: File) -> tuple[Table, Layout]:
    """The table, and the layout that the user's columns describe."""
    table = read_table(file)
    image = _column(table, "--id", columns.id)
    labels = _label_columns(table, columns.label)
    groups = tuple(_column(table, "--group", group) for group in columns.group)
    if not table.lines:
        raise SkinGanError(f"{table.name} has no rows: give the table that names the images")
    layout = Layout(
        kind="table",
        title="own table",
        image=(image,),
        label=labels if len(labels) == 1 else (),
        tells=((image,), *((label,) for label in labels)),
        one_hot=len(labels) > 1,
        hot=labels if len(labels) > 1 else (),
        groups=groups,
        consistent=True,
    )
    return table, layout


def _label_columns(table: Table, option: str) -> tuple[str, ...]:
    """The column that --label names, or several of 0 and 1, one per class."""
    names = [w.strip() for w in option.split(",") if w.strip()]
    names = [option] if column_key(option) in table.columns else names
    labels = tuple(_column(table, "--label", name) for name in names)
    for label in labels if len(labels) > 1 else ():
        wrong = next((v for v in table.column(label) if not is_missing(v) and truth(v) is None), None)
        if wrong is not None:
            raise SkinGanError(
                f"--label {option}: {table.name} has {wrong!r} in {table.written(label)}; several columns "
                "are one per class, of 0 and 1"
            )
    return labels


def _column(table: Table, option: str, name: str) -> str:
    """The column's key; SkinGanError that lists the columns if it is not among them."""
    if column_key(name) not in table.columns:
        raise SkinGanError(
            f"{option} {name}: {table.name} has no such column, it has {', '.join(table.names)}"
        )
    return column_key(name)
