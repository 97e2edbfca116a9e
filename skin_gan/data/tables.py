"""Reading a table of any data set: encodings, separators, empty columns and rows. No meaning is given to it.

Every table of SOURCE ends up either used, or in `Tables.unused` with the reason.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from skin_gan.data.files import READ_ERRORS, File
from skin_gan.data.words import column_key, is_missing
from skin_gan.errors import SkinGanError

MAX_COLUMNS = 500  # more are pixels or features; such a file is not worth the memory
DELIMITERS = ",;\t|"
BOMS = (  # UTF-32 before UTF-16, whose mark its own begins with
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, eq=False)
class Table:
    """A table as text. Columns and rows without any content are left out, values are stripped."""

    file: File
    encoding: str
    names: list[str]  # the columns as they are written
    columns: list[str]  # the same for comparison: `column_key` of the names
    lines: list[list[str]]  # values, in the columns' order
    numbers: list[int]  # line of the file that each of `lines` ends on

    @property
    def name(self) -> str:
        return str(self.file.path)

    def find(self, *candidates: str) -> str:
        """The first of the candidates that is a column here, or ""."""
        return next((c for c in candidates if c in self.columns), "")

    def column(self, name: str) -> list[str]:
        """All values of a column."""
        place = self.columns.index(name)
        return [line[place] for line in self.lines]

    def written(self, column: str) -> str:
        """A column's name as the file has it."""
        return self.names[self.columns.index(column)]

    def rows(self) -> Iterable[tuple[int, dict[str, str]]]:
        """Line number and values by column of each row."""
        for number, line in zip(self.numbers, self.lines, strict=True):
            yield number, dict(zip(self.columns, line, strict=True))


@dataclass
class Tables:
    """All tables of SOURCE."""

    read: list[Table] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)  # path of a table and why it is not used
    unreadable: set[str] = field(default_factory=set)  # those of `unused` whose content is not known


def read_tables(files: Iterable[File]) -> Tables:
    """Read what is a table by its name; one that cannot be read is in `unused` with the reason."""
    tables = Tables()
    for file in files:
        try:
            if file.is_spreadsheet:
                raise SkinGanError("is a spreadsheet or a binary table: save it as CSV")
            tables.read.append(read_table(file))
        except SkinGanError as e:
            tables.unused[str(file.path)] = (
                str(e).removeprefix(f"{file.path} ").removeprefix(f"{file.path}: ")
            )
            tables.unreadable.add(str(file.path))
    return tables


def read_table(file: File, header: Sequence[str] = ()) -> Table:
    """Read a table: UTF-8 or UTF-16, else Windows' cp1252; comma, semicolon, tab or bar; any line ends.

    `header` names the columns of a file that has no line with their names. What is no table, or is damaged,
    is a SkinGanError that begins with the file's path.
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
    if len(data) >= 4 and not len(data) % 2:  # every other byte of Latin letters is 0 in UTF-16
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
    return "latin-1"  # gives every byte a letter


def _parse(file: File, text: str) -> list[tuple[int, list[str]]]:
    """Number and stripped values of each line that has any; more than `MAX_COLUMNS` is a SkinGanError."""
    lines = text.splitlines()
    skipped = 0
    delimiter = ""
    if lines and (said := lines[0].strip().strip('"').lower()).startswith("sep=") and len(said) <= 5:
        delimiter, skipped = lines[0].strip().strip('"')[4:] or "\t", 1  # Excel's word for the separator
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
            f"{file.path} line {reader.line_num + skipped}: {e}; a quotation mark is left open, or "
            "the file is cut"
        ) from e
    return found


def _fit(file: File, number: int, line: list[str], header: Sequence[str]) -> list[str]:
    """The line with as many values as the header: only what is empty is added or taken away."""
    extra = line[len(header) :]
    lacking = header[len(line) :]
    if any(extra) or any(lacking):
        raise SkinGanError(
            f"{file.path} line {number} has {len(line)} values, its header {len(header)}: the file is "
            "cut or damaged, download it again"
        )
    return [*line[: len(header)], *[""] * len(lacking)]


def known(values: Iterable[str]) -> int:
    """How many of the values say something."""
    return sum(not is_missing(v) for v in values)
