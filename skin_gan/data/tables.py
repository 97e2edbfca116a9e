"""Reads the tables of a data set as text, in any encoding and with any separator.

Every table of SOURCE is either used or listed in `Tables.unused` with the reason.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from skin_gan.data.files import READ_ERRORS, File
from skin_gan.data.words import column_key
from skin_gan.errors import SkinGanError

MAX_COLUMNS = 500  # a table with more holds pixels or features, and no labels
DELIMITERS = ",;\t|"
BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, eq=False)
class Table:
    """A table as text. Empty columns and rows are left out, values are stripped."""

    file: File
    encoding: str
    names: list[str]  # the columns as the file spells them
    columns: list[str]  # their `column_key`
    lines: list[list[str]]  # values, in the columns' order
    numbers: list[int]  # line of the file that each of `lines` ends on

    @property
    def name(self) -> str:
        return str(self.file.path)

    def find(self, *candidates: str) -> str:
        """The first candidate that the table has as a column, or ""."""
        return next((c for c in candidates if c in self.columns), "")

    def column(self, name: str) -> list[str]:
        """All values of a column."""
        place = self.columns.index(name)
        return [line[place] for line in self.lines]

    def written(self, column: str) -> str:
        """A column's name as the file spells it."""
        return self.names[self.columns.index(column)]

    def rows(self) -> Iterable[tuple[int, dict[str, str]]]:
        """Line number and values by column of each row."""
        for number, line in zip(self.numbers, self.lines, strict=True):
            yield number, dict(zip(self.columns, line, strict=True))


@dataclass
class Tables:
    """All tables of SOURCE."""

    read: list[Table] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)  # path -> why the table is not used
    unreadable: set[str] = field(default_factory=set)  # paths in `unused` whose content could not be read


def read_tables(files: Iterable[File]) -> Tables:
    """Read the files as tables; one that cannot be read is listed in `unused` with the reason."""
    tables = Tables()
    for file in files:
        path = str(file.path)
        try:
            if file.is_spreadsheet:
                raise SkinGanError("is a spreadsheet or a binary table: save it as CSV")
            tables.read.append(read_table(file))
        except SkinGanError as e:
            tables.unused[path] = str(e).removeprefix(f"{path} ").removeprefix(f"{path}: ")
            tables.unreadable.add(path)
    return tables


def read_table(file: File, header: Sequence[str] = ()) -> Table:
    """Read a table: UTF-8, UTF-16 or cp1252; separated by comma, semicolon, tab or bar; any line ends.

    `header` gives the columns of a file without a header line. Raises a SkinGanError that begins with the
    file's path if the file is damaged or no table.
    """
    text, encoding = _decode(file)
    numbered = _parse(file, text)
    if not numbered:
        raise SkinGanError(f"{file.path} is empty: download it again")
    if not header:
        (_, header), *numbered = numbered
    lines = [_fit(file, number, line, header) for number, line in numbered]
    kept = [i for i, name in enumerate(header) if name or any(line[i] for line in lines)]
    names = [header[i] or f"unnamed_{i + 1}" for i in kept]
    columns = [column_key(name) for name in names]
    double = [name for name, n in Counter(columns).items() if n > 1]
    if double:
        raise SkinGanError(f"{file.path} names a column twice: {', '.join(double)}; rename one of them")
    values = [[line[i] for i in kept] for line in lines]
    return Table(file, encoding, names, columns, values, [number for number, _ in numbered])


def _decode(file: File) -> tuple[str, str]:
    """The file's text and its encoding."""
    try:
        data = file.read()
    except READ_ERRORS as e:
        raise SkinGanError(f"{file.path} cannot be read ({e}): download it again") from e
    encoding = next((name for bom, name in BOMS if data.startswith(bom)), "") or _without_bom(data)
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as e:
        raise SkinGanError(
            f"{file.path} is damaged {encoding.upper()} ({e.reason}): download it again"
        ) from e
    if "\0" in text:
        raise SkinGanError(f"{file.path} is no text: expected a table with commas, semicolons or tabs")
    return text, encoding


def _without_bom(data: bytes) -> str:
    """The encoding of text without a byte order mark, guessed from its bytes."""
    if len(data) >= 4 and not len(data) % 2:  # in UTF-16 every other byte of Latin letters is 0
        for encoding, zeros, letters in (("utf-16-le", data[1:400:2], data[0:400:2]),
                                         ("utf-16-be", data[0:400:2], data[1:400:2])):  # fmt: skip
            if zeros.count(0) > 0.7 * len(zeros) and letters.count(0) == 0:
                return encoding
    for encoding in ("utf-8", "cp1252"):
        try:
            data.decode(encoding)
            return encoding
        except UnicodeDecodeError:
            continue
    return "latin-1"  # defines every byte


def _parse(file: File, text: str) -> list[tuple[int, list[str]]]:
    """(line number, stripped values) of each line that is not empty; SkinGanError above `MAX_COLUMNS`."""
    lines = text.splitlines()
    skipped = 0
    delimiter = ""
    directive = lines[0].strip().strip('"') if lines else ""
    if directive.lower().startswith("sep=") and len(directive) <= 5:  # Excel's line for the separator
        delimiter, skipped = directive[4:] or "\t", 1
        text = text.partition("\n")[2] if "\n" in text else text.partition("\r")[2]
    first = next((line for line in lines[skipped:] if line.strip(' ,;\t|"')), "")
    delimiter = delimiter or max(DELIMITERS, key=lambda d: len(next(csv.reader([first], delimiter=d), [])))
    if len(next(csv.reader([first], delimiter=delimiter), [])) > MAX_COLUMNS:
        raise SkinGanError(f"{file.path} has more than {MAX_COLUMNS} columns: pixels or features, no labels")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found = []
    try:
        for line in reader:
            values = [value.strip() for value in line]
            if any(values):
                found.append((reader.line_num + skipped, values))
    except csv.Error as e:
        raise SkinGanError(
            f"{file.path} line {reader.line_num + skipped}: {e}; close the quotation mark, or download "
            "the file again"
        ) from e
    return found


def _fit(file: File, number: int, line: list[str], header: Sequence[str]) -> list[str]:
    """The line with as many values as the header has; SkinGanError if more than empty values differ."""
    extra = line[len(header) :]
    lacking = header[len(line) :]
    if any(extra) or any(lacking):
        raise SkinGanError(
            f"{file.path} line {number} has {len(line)} values, its header {len(header)}: the file is "
            "cut or damaged, download it again"
        )
    return [*line[: len(header)], *[""] * len(lacking)]
