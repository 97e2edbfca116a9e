"""Layouts of data sets. Each file here describes one in its `LAYOUT`; a new file adds a layout.

Most are a `Layout`: the columns of a table that name images, classes, lesions and patients. If several fit,
the one with most `tells` is used.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from typing import Any

from skin_gan.data.layout import Layout, key_columns
from skin_gan.data.listing import Listing
from skin_gan.data.matching import in_part
from skin_gan.data.source import Source, naming_column
from skin_gan.data.tables import Table
from skin_gan.data.words import LABEL_COLUMNS


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
    """Path -> why a table gives no classes, for each table that seems to be meant as labels."""
    found = {path: why for path, why in source.tables.unused.items() if path in source.tables.unreadable}
    for table in source.tables.read:
        why = next(
            (w for layout in registry() if isinstance(layout, Layout) and (w := layout.why_not(table))), ""
        )
        if why or is_about_images(table, source):
            found[table.name] = why or _hint(table, source)
    return found


def is_about_images(table: Table, source: Source) -> bool:
    """Whether a column names images of SOURCE, or the file has a name of a label table."""
    pattern = r"ground.?truth|labels?\b|metadata|diagnos|classes"
    return bool(re.search(pattern, table.file.path.stem, re.IGNORECASE) or naming_column(table, source))


def _hint(table: Table, source: Source) -> str:
    """Why a table that names images is not understood, and the options that describe it."""
    image, label = naming_column(table, source), table.find(*LABEL_COLUMNS)
    columns = f"its columns are {', '.join(table.names[:12])}{', ...' if len(table.names) > 12 else ''}"
    if not image:
        return f"no column names an image that is here; {columns}"
    keys = [table.written(c) for c in key_columns(table, ())]
    words = ["--table", str(table.file.path), "--id", table.written(image)]
    words += ["--label", table.written(label) if label else "COLUMN"]
    words += ["--group", ",".join(keys)] if keys else []
    return f"its layout is not known ({columns}): give {shlex.join(words)}"


def lacking_table(source: Source) -> str:
    """An error text for image folders of a layout without the layout's table; "" if there are none."""
    for layout in registry():
        parts = layout.parts if isinstance(layout, Layout) else None
        place = next((f for f in source.images.files if parts and in_part(f, parts)), None)
        if place is not None:
            name = next(part for part in place.path.parent.parts if parts and parts.fullmatch(part))
            columns = ", ".join(c for c, *_ in layout.tells)
            return (
                f"has {name} but no table with {columns} (HAM10000_metadata.csv): put the release's table "
                "beside the images and give their common folder"
            )
    return ""
