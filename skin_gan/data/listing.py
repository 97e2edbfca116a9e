"""What a layout makes of SOURCE: which images there should be, where they are, what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TypeVar

from skin_gan.data.files import File
from skin_gan.errors import SkinGanError

Key = tuple[str, str]  # what is kept together: ("lesion", "HAM_0001"), ("patient", "PAT_7")


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

    image_id: str  # without the file's extension; with folders where the metadata has them
    dx: str  # the class; "" where it is not known
    keys: tuple[Key, ...] = ()  # its lesion, its patient: whatever is known
    group: str = ""  # the unit of the split; set by `grouped`
    extra: dict[str, str] = field(default_factory=dict)  # the source's other columns
    origin: str = ""  # the table that says so

    @property
    def lesion_id(self) -> str:
        """ "" where the source knows none."""
        return next((value for kind, value in self.keys if kind == "lesion"), "")

    @property
    def unit(self) -> str:
        """The widest thing that is known of it: "patient", "lesion", another column's name, or ""."""
        kinds = [kind for kind, _ in self.keys]
        return "patient" if "patient" in kinds else next(iter(kinds), "")


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


def non_images(files: Iterable[File], used: Sequence[File] = ()) -> list[str]:
    """A line for each file that is neither an image by its name nor what data sets put beside images."""
    paths = {f.path for f in used}
    return [
        f"{f.path}: no image by its name"
        for f in files
        if not (f.is_image or f.is_table or f.is_spreadsheet or f.is_companion or f.path in paths)
    ]


def unique(rows: Iterable[Row], findings: Findings) -> list[Row]:
    """The rows with each image once; an image of two classes, or twice in two lesions, is an error."""
    found: dict[str, Row] = {}
    for row in rows:
        name = row.image_id.lower()
        first = found.get(name)
        if first is None:
            found[name] = row
            continue
        if (first.dx and row.dx and first.dx != row.dx) or _contradict(first, row):
            place = first.origin if first.origin == row.origin else f"{first.origin} and {row.origin}"
            raise SkinGanError(
                f"{place} lists {row.image_id} as {_described(first)} and as {_described(row)}: an image has "
                "one class, one lesion and one patient, correct the file"
            )
        findings.duplicate.append(f"{row.image_id}: listed again in {row.origin}")
        keys = tuple(dict.fromkeys((*first.keys, *row.keys)))
        found[name] = replace(first, dx=first.dx or row.dx, keys=keys, extra=row.extra | first.extra)
    return list(found.values())


def _contradict(one: Row, other: Row) -> bool:
    """Whether the two put the image into different units of one kind."""
    first = dict(one.keys)
    return any(first.get(kind, value) != value for kind, value in other.keys)


def _described(row: Row) -> str:
    return ", ".join([row.dx or "no class", *(f"{kind} {value}" for kind, value in row.keys)])


def merged_spellings(rows: Sequence[Row], notes: list[str]) -> list[Row]:
    """The rows with one spelling per class: "Nevus" and "nevus" are one, called as most rows have it.

    Classes name folders, so "/" becomes "-". Two classes that become one by that are an error.
    """
    counts = Counter(row.dx for row in rows if row.dx)
    chosen: dict[str, str] = {}
    for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        first = chosen.setdefault(label.casefold(), label)
        if first != label:
            notes.append(f"class {label!r} ({counts[label]} images) is taken as {first!r}")
    names: dict[str, str] = {}
    for label in sorted(chosen.values()):
        name = folder_name(label)
        if names.setdefault(name.casefold(), label) != label:
            raise SkinGanError(
                f"classes {names[name.casefold()]!r} and {label!r} would both be called {name!r}, "
                "since classes "
                "name folders: rename one of them"
            )
        if name != label:
            notes.append(f"class {label!r} is called {name!r}, since classes name folders")
    return [replace(row, dx=folder_name(chosen[row.dx.casefold()])) if row.dx else row for row in rows]


def folder_name(label: str) -> str:
    """The class's name as a folder can have it."""
    name = "".join("-" if c in '/\\\0\n\r\t<>:"|?*' else c for c in label).strip()
    return name.lstrip(".-").strip() or name.replace(".", "_").replace("-", "_")


def only(rows: Sequence[RowT], classes: Sequence[str]) -> list[RowT]:
    """The rows of `classes`, or all where none is chosen; a class that has no row is an error."""
    present = sorted({row.dx for row in rows})
    unknown = [c for c in classes if c not in present]
    if unknown:
        raise SkinGanError(
            f"--classes {' '.join(unknown)}: not in the source, which has {', '.join(present)}"
        )
    return [row for row in rows if not classes or row.dx in classes]
