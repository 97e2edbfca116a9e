"""The result of reading SOURCE in a layout: its images, their classes and units, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TypeVar

from skin_gan.data.files import File
from skin_gan.errors import SkinGanError

Key = tuple[str, str]  # kind and name of a unit: ("lesion", "HAM_0001"), ("patient", "PAT_7")


@dataclass
class Findings:
    """Faults that the ingest found: one line per case, beginning with the image's id or the file's path."""

    missing: list[str] = field(default_factory=list)  # named in the metadata, no file
    extra: list[str] = field(default_factory=list)  # an image that the metadata does not name
    corrupt: list[str] = field(default_factory=list)  # an image that cannot be decoded
    non_image: list[str] = field(default_factory=list)  # another file among the images
    truncated: list[str] = field(default_factory=list)  # an image whose end is missing
    duplicate: list[str] = field(default_factory=list)  # a repeated id or picture

    def counts(self) -> dict[str, int]:
        return {name: len(lines) for name, lines in asdict(self).items()}

    def first(self) -> str:
        """The first case; StopIteration if there is none."""
        return next(case for cases in asdict(self).values() for case in cases)

    def summary(self) -> str:
        """Counts such as "3 missing, 1 corrupt"; "" if nothing is wrong."""
        return ", ".join(f"{n} {name.replace('_', '-')}" for name, n in self.counts().items() if n)


@dataclass(frozen=True, kw_only=True)
class Row:
    """The metadata of one image."""

    image_id: str  # without the file's extension; with folders if the metadata has them
    dx: str  # the class; "": unknown
    keys: tuple[Key, ...] = ()  # its lesion, its patient, as far as they are known
    group: str = ""  # the unit of the split; set by `grouped`
    extra: dict[str, str] = field(default_factory=dict)  # the source's other columns
    origin: str = ""  # name of the table that it was read from

    @property
    def lesion_id(self) -> str:
        """The lesion's name; "" if it is unknown."""
        return next((value for kind, value in self.keys if kind == "lesion"), "")

    @property
    def unit(self) -> str:
        """The kind of the widest known unit: "patient", "lesion", another column's name, or ""."""
        kinds = [kind for kind, _ in self.keys]
        return "patient" if "patient" in kinds else next(iter(kinds), "")


@dataclass(frozen=True, kw_only=True)
class Record(Row):
    """An image to be ingested."""

    file: File


RowT = TypeVar("RowT", bound=Row)


@dataclass
class Listing:
    """The images of SOURCE in its layout."""

    kind: str
    name: str
    records: list[Record]
    findings: Findings
    notes: list[str] = field(default_factory=list)
    release: dict[str, int] = field(default_factory=dict)  # images per class of the release, if known


def non_images(files: Iterable[File], used: Sequence[File] = ()) -> list[str]:
    """A line for each file that is neither an image by its name nor a usual companion of images."""
    paths = {f.path for f in used}
    return [
        f"{f.path}: no image by its name"
        for f in files
        if not (f.is_image or f.is_table or f.is_spreadsheet or f.is_companion or f.path in paths)
    ]


def unique(rows: Iterable[Row], findings: Findings) -> list[Row]:
    """The rows with each image once; SkinGanError for an image in two classes, lesions or patients."""
    found: dict[str, Row] = {}
    for row in rows:
        name = row.image_id.lower()
        first = found.get(name)
        if first is None:
            found[name] = row
            continue
        units = dict(first.keys)
        two_units = any(units.get(kind, value) != value for kind, value in row.keys)
        if two_units or (first.dx and row.dx and first.dx != row.dx):
            place = first.origin if first.origin == row.origin else f"{first.origin} and {row.origin}"
            raise SkinGanError(
                f"{place} lists {row.image_id} as {_described(first)} and as {_described(row)}: an image has "
                "one class, one lesion and one patient, correct the file"
            )
        findings.duplicate.append(f"{row.image_id}: listed again in {row.origin}")
        keys = tuple(dict.fromkeys((*first.keys, *row.keys)))
        found[name] = replace(first, dx=first.dx or row.dx, keys=keys, extra=row.extra | first.extra)
    return list(found.values())


def _described(row: Row) -> str:
    return ", ".join([row.dx or "no class", *(f"{kind} {value}" for kind, value in row.keys)])


def merged_spellings(rows: Sequence[Row], notes: list[str]) -> list[Row]:
    """The rows with one spelling per class, the most frequent one: "Nevus" and "nevus" are one class.

    Classes name folders, so "/" becomes "-"; SkinGanError if two classes become equal by that.
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
                f"classes {names[name.casefold()]!r} and {label!r} would both be called {name!r}, since "
                "classes name folders: rename one of them"
            )
        if name != label:
            notes.append(f"class {label!r} is called {name!r}, since classes name folders")
    return [replace(row, dx=folder_name(chosen[row.dx.casefold()])) if row.dx else row for row in rows]


def folder_name(label: str) -> str:
    """The class's name as a valid folder name."""
    name = "".join("-" if c in '/\\\0\n\r\t<>:"|?*' else c for c in label).strip()
    return name.lstrip(".-").strip() or name.replace(".", "_").replace("-", "_")


def only(rows: Sequence[RowT], classes: Sequence[str]) -> list[RowT]:
    """The rows of `classes`, or all rows if `classes` is empty; SkinGanError for a class without a row."""
    present = sorted({row.dx for row in rows})
    if unknown := [c for c in classes if c not in present]:
        raise SkinGanError(
            f"--classes {' '.join(unknown)}: not in the source, which has {', '.join(present)}"
        )
    return [row for row in rows if not classes or row.dx in classes]
