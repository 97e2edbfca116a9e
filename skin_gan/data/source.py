"""SOURCE as it was scanned, which every layout looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skin_gan.data.files import File
from skin_gan.data.photographs import Photographs
from skin_gan.data.tables import Table, Tables


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


def naming_column(table: Table, source: Source) -> str:
    """The column that names most images that are here, or ""; the first 200 rows decide."""
    counts = {c: source.matches([v for v in table.column(c)[:200] if v]) for c in table.columns}
    best = max(counts, key=lambda c: counts[c], default="")
    return best if best and counts[best] else ""


def nested_hint(source: Source) -> str:
    """What to do about a zip inside a zip, which is not opened; "" where there is none."""
    nested = [str(f.path) for f in source.files if f.path.suffix.lower() == ".zip"]
    return f"; it holds a zip inside a zip ({nested[0]}): unpack the outer one" if nested else ""
