"""Layouts of SOURCE. Each file here describes one in its `LAYOUT`; adding a layout is adding a file.

Most are a `Layout`: which columns of which table name the images, their class, lesion and patient. Of several
that fit, the one with most tell-tale columns is taken.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from skin_gan.data.files import File
from skin_gan.data.listing import (
    Findings,
    Key,
    Listing,
    Record,
    Row,
    merged_spellings,
    non_images,
    only,
    unique,
)
from skin_gan.data.photographs import Photographs, choose, copy_line, split_id
from skin_gan.data.tables import Table, Tables, known, read_table
from skin_gan.data.units import grouped
from skin_gan.data.words import (
    CLASS_COLUMNS,
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    LESION_COLUMNS,
    NO_UNIT,
    PATIENT_COLUMNS,
    is_derived,
    is_missing,
    truth,
)
from skin_gan.errors import SkinGanError


@dataclass
class Source:
    """SOURCE as it was scanned: files, what among them are photographs, and what the tables hold."""

    name: str  # for the store, where the layout has no name of its own
    files: Sequence[File]
    images: Photographs
    tables: Tables
    classes: Sequence[str] = ()  # only these are asked for

    def matches(self, ids: Sequence[str]) -> int:
        """How many of the ids name an image that is here."""
        return sum(bool(self.images.named(value)) for value in ids)


@dataclass(frozen=True)
class Layout:
    """A data set that is laid out as images and tables.

    Columns are given as their `column_key`; of several the first that a table has is used.
    """

    kind: str
    title: str  # for people
    image: tuple[str, ...]
    label: tuple[str, ...] = ()  # the first that says something of any image; none where `one_hot`
    tells: tuple[tuple[str, ...], ...] = ()  # a table is this layout's if it has one column of each of these
    one_hot: bool = False  # one column of 0 and 1 per class
    zero: str = ""  # class of a row without any 1
    named: re.Pattern[str] | None = None  # file name of the table with the classes
    header: tuple[str, ...] = ()  # columns of a table that comes without a line of names
    values: Mapping[str, str] = field(default_factory=dict)  # class of a label column's word in lower case
    closed: bool = False  # whether words other than those in `values` are errors
    parts: re.Pattern[str] | None = None  # folders of images, where others beside them are something else
    columns: tuple[str, ...] = ()  # all that the release has, where unknown ones are worth a note
    release: Mapping[str, int] = field(default_factory=dict)  # images per class of the whole release
    warning: str = ""
    groups: tuple[str, ...] = ()  # the columns that name units, where not the usual ones do
    one_class_per_lesion: bool = False  # whether a lesion of two classes is an error

    def score(self, source: Source) -> tuple[bool, int]:
        """How well SOURCE fits: (True, n) where a table has the n tell-tale columns and names images here."""
        tables = self.label_tables(source)
        found = any(source.matches(t.column(self.image_column(t, source))) for t in tables)
        return found, len(self.tells) if tables else -1

    def label_tables(self, source: Source) -> list[Table]:
        """The tables that say the classes."""
        found = [t for t in map(self._headed, source.tables.read) if self._is_label_table(t, source)]
        named = [t for t in found if self.named and self.named.fullmatch(t.file.path.name)]
        if self.release and named:  # a release has one such table: a second is a copy, or another set's
            return [min(named, key=lambda t: (len(t.file.path.parts), t.name))]
        return found

    def _headed(self, table: Table) -> Table:
        """The table, read again with the layout's columns if it has no line of names."""
        if not (self.header and self.named and self.named.fullmatch(table.file.path.name)):
            return table
        if len(table.names) == len(self.header) and not table.find(*IMAGE_COLUMNS):
            return read_table(table.file, self.header)
        return table

    def _is_label_table(self, table: Table, source: Source) -> bool:
        if self.header and not (self.named and self.named.fullmatch(table.file.path.name)):
            return False
        if not all(table.find(*options) for options in self.tells) or not table.find(*self.image):
            return False
        if not table.lines:
            return False
        return not self.one_hot or bool(self.class_columns(table, source))

    def why_not(self, table: Table) -> str:
        """What is wrong with a table that has the name of this layout's; "" for any other."""
        if not (self.named and self.named.fullmatch(table.file.path.name)):
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
        """The column that names images: of those that could, the first whose values are found here."""
        return _naming(table, self.image, source)

    def label_column(self, tables: Sequence[Table]) -> str:
        """The first label column that says anything."""
        for column in self.label:
            if any(column in t.columns and known(t.column(column)) for t in tables):
                return column
        return ""

    def class_columns(self, table: Table, source: Source) -> list[str]:
        """The columns of a one-hot table that stand for classes; none if it is not one."""
        image = self.image_column(table, source)
        binary = []
        for column in table.columns:
            values = [v for v in table.column(column) if not is_missing(v)]
            if column != image and "weight" not in column and values and None not in map(truth, values):
                binary.append(column)
        usual = [c for c in binary if c in CLASS_COLUMNS]
        if len(usual) >= 2:
            return usual
        places = [table.columns.index(c) for c in binary]
        single = all(sum(truth(line[i]) is True for i in places) == 1 for line in table.lines)
        truthful = bool(self.named and self.named.fullmatch(table.file.path.name))
        return binary if len(binary) >= 2 and (single or truthful) else []

    def find(self, source: Source) -> Listing | None:
        """The listing of SOURCE in this layout, or None if it is laid out otherwise."""
        tables = self.label_tables(source)
        if not tables:
            return None
        label = self.label_column(tables)
        findings = Findings()
        notes: list[str] = []
        claims: list[Row] = []
        for table in tables:
            claims += self._claims(table, source, label, notes)
        rows = unique(claims, findings)
        if len(rows) < len(claims):
            notes.append(
                f"{', '.join(t.name for t in tables)} has {len(claims)} rows for {len(rows)} images, "
                "each used once"
                + (f"; the release has {sum(self.release.values()):,}" if self.release else "")
            )
        self._check_words(rows, tables[0])
        joined = [t for t in source.tables.read if t.file not in [u.file for u in tables]]
        rows, used = _with_units(self, rows, joined, source, notes)
        _name_unused(source, [t.file for t in tables] + used, self.title)
        rows = grouped(merged_spellings(rows, notes))
        if self.one_class_per_lesion:
            _require_one_class_per_lesion(rows)
        pool = self._pool(source, tables[0], notes)
        records = match(rows, source, pool, findings)
        if not records:
            raise _none_found(rows, tables[0], source, findings)
        findings.non_image += non_images(source.files, [t.file for t in tables])
        notes += [self.warning] if self.warning else []
        release = {c: n for c, n in self.release.items() if not source.classes or c in source.classes}
        _say_unknown(rows, tables[0], label, notes)
        return Listing(self.kind, self.kind, records, findings, [f"layout: {self.title}", *notes], release)

    def _claims(self, table: Table, source: Source, label: str, notes: list[str]) -> list[Row]:
        """What the table says of each image, and a note on the columns that say it."""
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
            dx = self._one_hot(table, values, columns) if self.one_hot else self._word(values.get(label, ""))
            rows.append(
                Row(image_id=image_id, dx=dx, keys=unit_keys(values, keys), extra=extra, origin=table.name)
            )
        classes = (
            f"one column per class ({', '.join(table.written(c) for c in columns)})" if columns else label
        )
        notes.append(used_note(table, image, classes, keys))
        unknown = [c for c in table.columns if self.columns and c not in self.columns and c not in own]
        if unknown:
            notes.append(f"columns that the release does not have are kept: {', '.join(unknown)}")
        return rows

    def _one_hot(self, table: Table, values: Mapping[str, str], columns: Sequence[str]) -> str:
        told = [c for c in columns if truth(values[c])]
        if told:
            return table.written(told[0])
        return "" if any(is_missing(values[c]) for c in columns) else self.zero

    def _word(self, value: str) -> str:
        if is_missing(value):
            return ""
        return self.values.get(value.lower(), value)

    def _check_words(self, rows: Sequence[Row], table: Table) -> None:
        unknown = Counter(row.dx for row in rows if row.dx and row.dx not in self.values.values())
        if self.closed and unknown:
            named = ", ".join(f"{label!r} in {n} rows" for label, n in unknown.most_common(5))
            raise SkinGanError(
                f"{table.name}: unknown class in {self.label[0]}: {named}; {self.title} has "
                f"{', '.join(dict.fromkeys(self.values.values()))}"
            )

    def _pool(self, source: Source, table: Table, notes: list[str]) -> list[File]:
        """The layout's photographs; where it has parts, those in them or beside its table."""
        images = source.images.files
        if self.parts is None or not any(_in_part(f, self.parts) for f in images):
            return list(images)
        kept = [f for f in images if _in_part(f, self.parts) or f.path.parent == table.file.path.parent]
        passed = Counter(f.path.parts[0] for f in images if f not in set(kept))
        if passed:
            notes.append(f"passed over, not part of the images: {', '.join(sorted(passed))}")
        return kept


def registry() -> list[Any]:
    """The `LAYOUT` of every file in this folder."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{name}").LAYOUT for name in names]


def find(source: Source) -> Listing | None:
    """The listing in the layout that fits SOURCE best, or None if no table or array is understood."""
    scored = [(layout.score(source), layout) for layout in registry()]
    best, layout = max(scored, key=lambda pair: pair[0])
    return layout.find(source) if best[1] >= 0 else None


def reasons(source: Source) -> dict[str, str]:
    """Why no table of SOURCE gives classes: path and reason, of each that seems to be meant for that."""
    found = {path: why for path, why in source.tables.unused.items() if path in source.tables.unreadable}
    for table in source.tables.read:
        why = next(
            (w for layout in registry() if isinstance(layout, Layout) and (w := layout.why_not(table))), ""
        )
        if why or is_about_images(table, source):
            found[table.name] = why or _hint(table, source)
    return found


def is_about_images(table: Table, source: Source) -> bool:
    """Whether any column names images that are here, or the file is called as label tables are."""
    called = re.search(
        r"ground.?truth|labels?\b|metadata|diagnos|classes", table.file.path.stem, re.IGNORECASE
    )
    return bool(called) or bool(naming_column(table, source))


def naming_column(table: Table, source: Source) -> str:
    """The column that names most images that are here, or ""; the first 200 rows decide."""
    counts = {c: source.matches([v for v in table.column(c)[:200] if v]) for c in table.columns}
    best = max(counts, key=lambda c: counts[c], default="")
    return best if best and counts[best] else ""


def _hint(table: Table, source: Source) -> str:
    """What is wrong with a table that names images, with the options that would make it understood."""
    image, label = naming_column(table, source), table.find(*LABEL_COLUMNS)
    columns = f"its columns are {', '.join(table.names[:12])}{', ...' if len(table.names) > 12 else ''}"
    if not image:
        return f"no column names an image that is here; {columns}"
    keys = [table.written(c) for c in key_columns(table, ())]
    return (
        f"its layout is not known ({columns}): give --table {table.file.path.name} --id "
        f"{table.written(image)} "
        f"--label {table.written(label) if label else 'COLUMN'}{' --group ' + ','.join(keys) if keys else ''}"
    )


def _naming(table: Table, candidates: Sequence[str], source: Source) -> str:
    """Of the candidate columns that are there, the first whose values name images; else the first."""
    here = [c for c in candidates if c in table.columns]
    return next((c for c in here if source.matches(table.column(c)[:1000])), here[0] if here else "")


def image_ids(table: Table, column: str) -> list[str]:
    """The ids without extension, except where that alone tells two images apart; a blank one is an error."""
    full = []
    for number, value in zip(table.numbers, table.column(column), strict=True):
        folders, stem, suffix = split_id(value)
        if is_missing(value) or not stem:
            raise SkinGanError(
                f"{table.name} line {number}: {table.written(column)} is {value or 'empty'!r}, "
                "expected an image: "
                "correct the file, or download it again"
            )
        full.append(("/".join([*folders, stem]), suffix))
    suffixes: dict[str, set[str]] = {}
    for plain, suffix in full:
        suffixes.setdefault(plain.lower(), set()).add(suffix.lower())
    return [plain + suffix if len(suffixes[plain.lower()] - {""}) > 1 else plain for plain, suffix in full]


def key_columns(table: Table, groups: Sequence[str]) -> dict[str, str]:
    """The columns that name units, and what each names: "lesion", "patient", or its own name."""
    found = {table.find(*LESION_COLUMNS): "lesion", table.find(*PATIENT_COLUMNS): "patient"}
    found = {c: kind for c, kind in found.items() if c} if not groups else {}
    return found | {c: kind_of(c) for c in groups if c in table.columns}


def kind_of(column: str) -> str:
    """What a group column names, by its name."""
    if "lesion" in column:
        return "lesion"
    return "patient" if "patient" in column or "subject" in column else column


def unit_keys(values: Mapping[str, str], columns: Mapping[str, str]) -> tuple[Key, ...]:
    found = [(kind, values[c]) for c, kind in columns.items() if values[c].lower() not in NO_UNIT]
    return tuple(dict.fromkeys(found))


def _with_units(
    layout: Layout, rows: Sequence[Row], tables: Sequence[Table], source: Source, notes: list[str]
) -> tuple[list[Row], list[File]]:
    """The rows with lesions and patients from further tables, and the files of those that were used."""
    result, used = list(rows), []
    place = {row.image_id.lower(): i for i, row in enumerate(result)}
    for table in tables:
        image = _naming(table, (*layout.image, *IMAGE_COLUMNS), source)
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
            told = first.setdefault((image_id.lower(), kind), value)
            if told != value:
                raise SkinGanError(
                    f"{table.name} lists {image_id} in {kind} {told} and in {kind} {value}: correct the file"
                )


def _require_one_class(table: Table, image: str, columns: Sequence[str], zero: str) -> None:
    """SkinGanError if a row of a one-hot table has two classes, or none where that means nothing."""
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


def _require_one_class_per_lesion(rows: Sequence[Row]) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        told = first.setdefault(row.lesion_id, row) if row.lesion_id and row.dx else row
        if told.dx != row.dx:
            raise SkinGanError(
                f"{row.origin}: lesion {row.lesion_id} is {told.dx} ({told.image_id}) and {row.dx} "
                f"({row.image_id}): a lesion has one class, correct the file"
            )


def _none_found(rows: Sequence[Row], table: Table, source: Source, findings: Findings) -> SkinGanError:
    """The error for a table of which no image is there."""
    if not any(row.dx for row in rows):
        return SkinGanError(f"{table.name}: the class of none of its {len(rows)} images is known")
    images = source.images.files
    seen = (
        f"it names {rows[0].image_id}, and there is {images[0].path}"
        if images
        else "there is no image at all"
    )
    return SkinGanError(
        f"none of the images that {table.name} names is there ({findings.summary()}; {seen}): give "
        "the folder "
        f"that holds table and images{nested_hint(source)}"
    )


def nested_hint(source: Source) -> str:
    """What to do about a zip inside a zip, which is not opened; "" where there is none."""
    nested = [str(f.path) for f in source.files if f.path.suffix.lower() == ".zip"]
    return f"; it holds a zip inside a zip ({nested[0]}): unpack the outer one" if nested else ""


def lacking_table(source: Source) -> str:
    """What is missing where folders are a layout's parts and its table is not there; "" elsewhere."""
    for layout in registry():
        parts = layout.parts if isinstance(layout, Layout) else None
        place = next((f for f in source.images.files if parts and _in_part(f, parts)), None)
        if place is not None:
            name = next(part for part in place.path.parent.parts if parts and parts.fullmatch(part))
            return (
                f"has {name} but no table with {', '.join(c for c, *_ in layout.tells)} "
                "(HAM10000_metadata.csv): "
                "put the release's table beside the images and give their common folder"
            )
    return ""


def used_note(table: Table, image: str, classes: str, keys: Mapping[str, str]) -> str:
    """A note on what was taken from a table, and from which columns."""
    written = dict(zip(table.columns, table.names, strict=True))
    said = [f"images by {written[image]}"]
    said += [f"classes by {written.get(classes, classes)}"] if classes else []
    plural = {"lesion": "lesions", "patient": "patients"}
    said += [f"{plural.get(kind, 'units')} by {written[c]}" for c, kind in keys.items()]
    told = "" if table.encoding == "utf-8" else f", read as {table.encoding.upper()}"
    return f"table {table.name}: {', '.join(said)}{told}"


def _say_unknown(rows: Sequence[Row], table: Table, label: str, notes: list[str]) -> None:
    unknown = [row for row in rows if not row.dx]
    if unknown:
        where = f" ({table.written(label)})" if label else ""
        notes.append(
            f"class unknown for {len(unknown)} of {len(rows)} images{where}, such as "
            f"{unknown[0].image_id}: left out"
        )


def _name_unused(source: Source, used: Sequence[File], title: str) -> None:
    """Write into `unused` why each table that gave nothing was not used."""
    for table in source.tables.read:
        if table.file not in used and table.name not in source.tables.unused:
            named = naming_column(table, source)
            why = f"{title} takes nothing from it" if named else "no column names an image that is here"
            source.tables.unused[table.name] = why


def match(rows: Sequence[Row], source: Source, pool: Sequence[File], findings: Findings) -> list[Record]:
    """Bring rows and photographs together; of the source's chosen classes only, where there are any."""
    allowed = {f.path for f in pool}
    candidates = {
        row.image_id: [f for f in source.images.named(row.image_id) if f.path in allowed] for row in rows
    }
    named = {f.path for files in candidates.values() for f in files}
    findings.extra += [f"{f.path.stem}: {f.path}" for f in pool if f.path not in named]
    # a name that looks like a mask's or a copy's is a photograph's after all where the table has it
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
    _say_twins(twins, pool, source.images.notes, findings)
    return records


def _say_twins(
    twins: Sequence[tuple[File, File]], pool: Sequence[File], notes: list[str], findings: Findings
) -> None:
    """A note for each folder that holds only copies of another's files, findings for single copies."""
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


@cache
def _folder_matches(name: str, parts: re.Pattern[str]) -> bool:
    return bool(parts.fullmatch(name))


def _in_part(file: File, parts: re.Pattern[str]) -> bool:
    return any(_folder_matches(name, parts) for name in file.path.parent.parts)


def titles() -> Iterator[str]:
    """What the layouts are called."""
    return (layout.title for layout in registry())
