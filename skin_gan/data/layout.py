"""Describes a data set by its tables: the columns that name images, classes, lesions and patients."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from skin_gan.data.files import File
from skin_gan.data.listing import Findings, Key, Listing, Row, merged_spellings, non_images, unique
from skin_gan.data.matching import in_part, match
from skin_gan.data.photographs import split_id
from skin_gan.data.source import Source, naming_column, nested_hint
from skin_gan.data.tables import Table, read_table
from skin_gan.data.units import grouped
from skin_gan.data.words import (
    CLASS_COLUMNS,
    IMAGE_COLUMNS,
    LESION_COLUMNS,
    NO_UNIT,
    PATIENT_COLUMNS,
    is_missing,
    kind_of,
    truth,
)
from skin_gan.errors import SkinGanError


@dataclass(frozen=True)
class Layout:
    """A data set that consists of images and tables.

    Columns are given as their `column_key`. Where several are given, the first that a table has is used.
    """

    kind: str
    title: str  # for people
    image: tuple[str, ...]
    label: tuple[str, ...] = ()  # the first that is not empty for every image is used; unused if `one_hot`
    tells: tuple[tuple[str, ...], ...] = ()  # a table belongs to this layout if it has a column of each
    one_hot: bool = False  # one column of 0 and 1 per class
    zero: str = ""  # class of a row without any 1
    named: re.Pattern[str] | None = None  # file name of the table with the classes
    header: tuple[str, ...] = ()  # columns of a table that has no header line
    values: Mapping[str, str] = field(default_factory=dict)  # lower-case value of a label column -> class
    closed: bool = False  # whether values that are not in `values` are errors
    parts: re.Pattern[str] | None = None  # names of the image folders; None: all folders hold images
    columns: tuple[str, ...] = ()  # all columns of the release; others are noted. (): not known
    release: Mapping[str, int] = field(default_factory=dict)  # images per class of the whole release
    hot: tuple[str, ...] = ()  # the class columns of a one-hot table; (): detect them
    groups: tuple[str, ...] = ()  # the columns that name units; (): the usual ones
    consistent: bool = False  # whether a lesion of two classes, or of two patients, is an error

    def score(self, source: Source) -> tuple[bool, int]:
        """How well SOURCE fits: whether a table names its images, and how many `tells` it has (-1: none)."""
        tables = self.label_tables(source)
        found = any(source.matches(t.column(self.image_column(t, source))) for t in tables)
        return found, len(self.tells) if tables else -1

    def label_tables(self, source: Source) -> list[Table]:
        """The tables that hold the classes."""
        found = [t for t in map(self._with_header, source.tables.read) if self._is_label_table(t, source)]
        named = [t for t in found if self.has_name(t.file)]
        if self.release and named:  # a release has one such table: a second is a copy or another data set's
            return [min(named, key=lambda t: (len(t.file.path.parts), t.name))]
        return found

    def has_name(self, file: File) -> bool:
        """Whether the file has the name of this layout's label table."""
        return bool(self.named and self.named.fullmatch(file.path.name))

    def _with_header(self, table: Table) -> Table:
        """The table, read again with the layout's columns if it has no header line."""
        lacks_header = len(table.names) == len(self.header) and not table.find(*IMAGE_COLUMNS)
        if self.header and self.has_name(table.file) and lacks_header:
            return read_table(table.file, self.header)
        return table

    def _is_label_table(self, table: Table, source: Source) -> bool:
        if self.header and not self.has_name(table.file):
            return False
        if not table.lines or not all(table.find(*options) for options in (*self.tells, self.image)):
            return False
        return not self.one_hot or bool(self.class_columns(table, source))

    def why_not(self, table: Table) -> str:
        """Why a table with this layout's file name is not its label table; "" for other file names."""
        if not self.has_name(table.file):
            return ""
        if not table.lines:
            return "has no rows"
        lacking = [" or ".join(o) for o in (*self.tells, self.image) if not table.find(*o)]
        if lacking:
            unknown = [n for n, c in zip(table.names, table.columns, strict=True) if c not in self.columns]
            has = f" and has the unknown {', '.join(unknown)}" if unknown and self.columns else ""
            expected = f": expected {', '.join(self.columns)}" if self.columns else ""
            return f"lacks the column {', '.join(dict.fromkeys(lacking))}{has}{expected}"
        return (
            "is no ground truth: expected an image column and at least two class columns of 0 and 1, "
            f"its columns are {', '.join(table.names)}"
        )

    def image_column(self, table: Table, source: Source) -> str:
        """The column that names images: the first candidate whose values are images of SOURCE."""
        return _image_column(table, self.image, source)

    def label_column(self, tables: Sequence[Table]) -> str:
        """The first label column that is not empty, or ""."""
        for column in self.label:
            if any(column in t.columns and not all(map(is_missing, t.column(column))) for t in tables):
                return column
        return ""

    def class_columns(self, table: Table, source: Source) -> list[str]:
        """The class columns of a one-hot table; [] if the table is not one-hot.

        A table is one-hot if two 0/1 columns have names of classes, or if all columns but the image are 0/1.
        """
        if self.hot:
            return list(self.hot)
        others = {self.image_column(table, source), *key_columns(table, self.groups)}
        columns = [c for c in table.columns if c not in others and "weight" not in c]
        binary = []
        for column in columns:
            values = [v for v in set(table.column(column)) if not is_missing(v)]
            if None not in map(truth, values) and (values or column in CLASS_COLUMNS):
                binary.append(column)
        usual = [c for c in binary if c in CLASS_COLUMNS]
        if len(usual) >= 2:
            return usual
        places = [table.columns.index(c) for c in binary]
        single = all(sum(truth(line[i]) is True for i in places) == 1 for line in table.lines)
        ground_truth = single or self.has_name(table.file)
        return binary if len(binary) >= 2 and binary == columns and ground_truth else []

    def find(self, source: Source) -> Listing | None:
        """The listing of SOURCE in this layout, or None if SOURCE has another layout."""
        tables = self.label_tables(source)
        if not tables:
            return None
        label = self.label_column(tables)
        findings, notes = Findings(), [f"layout: {self.title}"]
        rows = self._rows(tables, source, label, findings, notes)
        pool = self._pool(source, tables[0], notes)
        records = match(rows, source, pool, findings)
        if not records:
            raise _no_image_error(rows, tables[0], source, findings)
        findings.non_image += non_images(source.files, [t.file for t in tables])
        release = {c: n for c, n in self.release.items() if not source.classes or c in source.classes}
        _note_unknown_classes(rows, tables[0], label, notes)
        return Listing(self.kind, self.kind, records, findings, notes, release)

    def _rows(
        self, tables: Sequence[Table], source: Source, label: str, findings: Findings, notes: list[str]
    ) -> list[Row]:
        """One row per image, merged from all tables: class, unit of the split, further columns."""
        read = [row for table in tables for row in self._rows_of(table, source, label, notes)]
        rows = unique(read, findings)
        if len(rows) < len(read):
            whole = f"; the release has {sum(self.release.values()):,}" if self.release else ""
            names = ", ".join(t.name for t in tables)
            notes.append(f"{names}: {len(read)} rows for {len(rows)} images, each used once{whole}")
        self._check_words(rows, tables[0])
        label_files = [t.file for t in tables]
        others = [t for t in source.tables.read if t.file not in label_files]
        rows, used = _with_units(self, rows, others, source, notes)
        _explain_unused(source, label_files + used, self.title)
        rows = grouped(merged_spellings(rows, notes))
        if self.consistent:
            _require_consistent_lesions(rows)
        return rows

    def _rows_of(self, table: Table, source: Source, label: str, notes: list[str]) -> list[Row]:
        """The rows of one table; adds a note on the columns that were used."""
        image = self.image_column(table, source)
        columns = self.class_columns(table, source) if self.one_hot else []
        if self.one_hot:
            _require_one_class(table, image, columns, self.zero)
        keys = key_columns(table, self.groups)
        own = {image, *columns, *([label] if label else []), *(c for c, k in keys.items() if k == "lesion")}
        ids = image_ids(table, image)
        rows = []
        for (_, values), image_id in zip(table.rows(), ids, strict=True):
            extra = {
                n.lower(): values[c] for n, c in zip(table.names, table.columns, strict=True) if c not in own
            }
            word = values.get(label, "")
            if self.one_hot:
                dx = self._one_hot_class(table, values, columns)
            else:
                dx = "" if is_missing(word) else self.values.get(word.lower(), word)
            rows.append(
                Row(image_id=image_id, dx=dx, keys=unit_keys(values, keys), extra=extra, origin=table.name)
            )
        classes = f"one column per class ({', '.join(map(table.written, columns))})" if columns else label
        notes.append(used_note(table, image, classes, keys))
        unknown = [c for c in table.columns if self.columns and c not in self.columns and c not in own]
        if unknown:
            notes.append(f"columns that the release does not have are kept: {', '.join(unknown)}")
        return rows

    def _one_hot_class(self, table: Table, values: Mapping[str, str], columns: Sequence[str]) -> str:
        """The class of a one-hot row; `zero` for a row of zeros, "" if a value is missing."""
        true = [c for c in columns if truth(values[c])]
        if true:
            return table.written(true[0])
        return "" if any(is_missing(values[c]) for c in columns) else self.zero

    def _check_words(self, rows: Sequence[Row], table: Table) -> None:
        """Raise SkinGanError for a class that a `closed` layout does not have."""
        unknown = Counter(row.dx for row in rows if row.dx and row.dx not in self.values.values())
        if self.closed and unknown:
            named = ", ".join(f"{label!r} in {n} rows" for label, n in unknown.most_common(5))
            raise SkinGanError(
                f"{table.name}: unknown class in {self.label[0]}: {named}; {self.title} has "
                f"{', '.join(dict.fromkeys(self.values.values()))}"
            )

    def _pool(self, source: Source, table: Table, notes: list[str]) -> list[File]:
        """The photographs; if there are folders of `parts`, only those in them or beside the table."""
        images = source.images.files
        if self.parts is None or not any(in_part(f, self.parts) for f in images):
            return list(images)
        kept = [f for f in images if in_part(f, self.parts) or f.path.parent == table.file.path.parent]
        skipped = {f.path.parts[0] for f in set(images) - set(kept)}
        if skipped:
            notes.append(f"passed over, not part of the images: {', '.join(sorted(skipped))}")
        return kept


def _image_column(table: Table, candidates: Sequence[str], source: Source) -> str:
    """The first candidate whose values name images of SOURCE; else the first that the table has, or ""."""
    here = [c for c in candidates if c in table.columns]
    return next((c for c in here if source.matches(table.column(c)[:1000])), here[0] if here else "")


def image_ids(table: Table, column: str) -> list[str]:
    """The image ids of a table; SkinGanError for an empty one.

    They are without extension, unless two images differ in nothing else.
    """
    full = []
    for number, value in zip(table.numbers, table.column(column), strict=True):
        folders, stem, suffix = split_id(value)
        if is_missing(value) or not stem:
            raise SkinGanError(
                f"{table.name} line {number}: {table.written(column)} is {value or 'empty'!r}, "
                "expected an image: correct the file, or download it again"
            )
        full.append(("/".join([*folders, stem]), suffix))
    suffixes: dict[str, set[str]] = {}
    for plain, suffix in full:
        suffixes.setdefault(plain.lower(), set()).add(suffix.lower())
    return [plain + suffix if len(suffixes[plain.lower()] - {""}) > 1 else plain for plain, suffix in full]


def key_columns(table: Table, groups: Sequence[str]) -> dict[str, str]:
    """The columns that name units, each with its kind: "lesion", "patient", or the column's name."""
    found = {table.find(*LESION_COLUMNS): "lesion", table.find(*PATIENT_COLUMNS): "patient"}
    found = {c: kind for c, kind in found.items() if c} if not groups else {}
    return found | {c: kind_of(c) for c in groups if c in table.columns}


def unit_keys(values: Mapping[str, str], columns: Mapping[str, str]) -> tuple[Key, ...]:
    """The units (kind, name) of a row's image; unknown ones are left out."""
    found = [(kind, values[c]) for c, kind in columns.items() if values[c].lower() not in NO_UNIT]
    return tuple(dict.fromkeys(found))


def _with_units(
    layout: Layout, rows: Sequence[Row], tables: Sequence[Table], source: Source, notes: list[str]
) -> tuple[list[Row], list[File]]:
    """The rows with lesions and patients from further tables, and the files of those that were used."""
    result, used = list(rows), []
    place = {row.image_id.lower(): i for i, row in enumerate(result)}
    for table in tables:
        image = _image_column(table, (*layout.image, *IMAGE_COLUMNS), source)
        keys = key_columns(table, layout.groups)
        if not image or not keys:
            continue
        ids = image_ids(table, image)
        found = [
            (place[i.lower()], v) for i, (_, v) in zip(ids, table.rows(), strict=True) if i.lower() in place
        ]
        if not found:
            source.tables.unused[table.name] = (
                f"its {image}, such as {ids[0] if ids else 'none'}, names no image here"
            )
            continue
        require_one_unit(table, ids, keys)
        lesions = {c for c, kind in keys.items() if kind == "lesion"}
        for i, values in found:
            extra = {n.lower(): values[c] for n, c in zip(table.names, table.columns, strict=True)
                     if c != image and c not in lesions}  # fmt: skip
            row = result[i]
            more = tuple(dict.fromkeys((*row.keys, *unit_keys(values, keys))))
            result[i] = replace(row, keys=more, extra=row.extra | extra)
        notes.append(used_note(table, image, "", keys))
        used.append(table.file)
    return result, used


def require_one_unit(table: Table, ids: Sequence[str], keys: Mapping[str, str]) -> None:
    """SkinGanError if the table puts one image into two lesions, or two patients."""
    first: dict[tuple[str, str], str] = {}
    for image_id, (_, values) in zip(ids, table.rows(), strict=True):
        for kind, value in unit_keys(values, keys):
            other = first.setdefault((image_id.lower(), kind), value)
            if other != value:
                raise SkinGanError(
                    f"{table.name} lists {image_id} in {kind} {other} and in {kind} {value}: correct the file"
                )


def _require_one_class(table: Table, image: str, columns: Sequence[str], zero: str) -> None:
    """SkinGanError if a row of a one-hot table has two classes, or none and there is no class for zeros."""
    wrong = []
    for _, values in table.rows():
        ones = sum(truth(values[c]) is True for c in columns)
        blank = any(is_missing(values[c]) for c in columns)
        if ones > 1 or (ones == 0 and not zero and not blank):
            wrong.append(values[image])
    if wrong:
        raise SkinGanError(
            f"{table.name}: {len(wrong)} images without exactly one class among "
            f"{', '.join(map(table.written, columns))}, such as {', '.join(wrong[:3])}: correct the file, or "
            "download it again"
        )


def _require_consistent_lesions(rows: Sequence[Row]) -> None:
    """SkinGanError if a lesion has two classes or two patients: then its id stands for several lesions."""
    classes: dict[str, Row] = {}
    patients: dict[str, Row] = {}
    for row in (row for row in rows if row.lesion_id):
        patient = dict(row.keys).get("patient", "")
        first = classes.setdefault(row.lesion_id, row) if row.dx else row
        owner = patients.setdefault(row.lesion_id, row) if patient else row
        whose = dict(owner.keys).get("patient", "")
        if first.dx != row.dx:
            raise SkinGanError(
                f"{row.origin}: lesion {row.lesion_id} is {first.dx} ({first.image_id}) and {row.dx} "
                f"({row.image_id}): a lesion has one class, correct the file"
            )
        if whose != patient:
            raise SkinGanError(
                f"{row.origin}: lesion {row.lesion_id} is of patient {whose} ({owner.image_id}) "
                f"and of patient {patient} ({row.image_id}): if lesions are numbered within each patient, "
                "give the patient alone as --group"
            )


def _no_image_error(rows: Sequence[Row], table: Table, source: Source, findings: Findings) -> SkinGanError:
    """The error for a table none of whose images is in SOURCE."""
    if not any(row.dx for row in rows):
        return SkinGanError(f"{table.name}: the class of none of its {len(rows)} images is known")
    seen = "there is no image at all"
    if images := source.images.files:
        seen = f"it names {rows[0].image_id}, and there is {images[0].path}"
    return SkinGanError(
        f"none of the images that {table.name} names is there ({findings.summary()}; {seen}): give "
        f"the folder that holds table and images{nested_hint(source)}"
    )


def used_note(table: Table, image: str, classes: str, keys: Mapping[str, str]) -> str:
    """A note on which columns of a table were used, and for what."""
    written = dict(zip(table.columns, table.names, strict=True))
    plural = {"lesion": "lesions", "patient": "patients"}
    uses = [f"images by {written[image]}"]
    uses += [f"classes by {written.get(classes, classes)}"] if classes else []
    uses += [f"{plural.get(kind, 'units')} by {written[c]}" for c, kind in keys.items()]
    uses += [] if table.encoding == "utf-8" else [f"read as {table.encoding.upper()}"]
    return f"table {table.name}: {', '.join(uses)}"


def _note_unknown_classes(rows: Sequence[Row], table: Table, label: str, notes: list[str]) -> None:
    unknown = [row.image_id for row in rows if not row.dx]
    if unknown:
        share = f"{len(unknown)} of {len(rows)} images{f' ({table.written(label)})' if label else ''}"
        notes.append(f"class unknown for {share}, such as {unknown[0]}: left out")


def _explain_unused(source: Source, used: Sequence[File], title: str) -> None:
    """Record in `source.tables.unused` why each remaining table is not used."""
    for table in source.tables.read:
        if table.file not in used and table.name not in source.tables.unused:
            named = naming_column(table, source)
            why = f"{title} takes nothing from it" if named else "no column names an image that is here"
            source.tables.unused[table.name] = why
