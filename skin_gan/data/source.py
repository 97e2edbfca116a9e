"""The scanned SOURCE, from which every layout reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skin_gan.data.files import File
from skin_gan.data.photographs import Photographs
from skin_gan.data.tables import Table, Tables


@dataclass
class Source:
    """The scanned SOURCE: its files, its photographs and its tables."""

    name: str  # of the store, if the layout gives none
    files: Sequence[File]
    images: Photographs
    tables: Tables
    classes: Sequence[str] = ()  # the classes to read; (): all

    def matches(self, ids: Sequence[str]) -> int:
        """The number of ids that name an image of SOURCE."""
        return sum(bool(self.images.named(value)) for value in ids)


def naming_column(table: Table, source: Source) -> str:
    """The column that names most images of SOURCE in the table's first 200 rows, or ""."""
    counts = {c: source.matches([v for v in table.column(c)[:200] if v]) for c in table.columns}
    best = max(counts, key=lambda c: counts[c], default="")
    return best if best and counts[best] else ""


def nested_hint(source: Source) -> str:
    """A hint on a zip inside a zip, which is not opened; "" if there is none."""
    nested = [str(f.path) for f in source.files if f.path.suffix.lower() == ".zip"]
    return f"; it holds a zip inside a zip ({nested[0]}): unpack the outer one" if nested else ""
