"""Layouts of SOURCE. Each file here describes one in its `LAYOUT`; adding a layout is adding a file.

Most are a `Layout`: which columns of which table name the images, their class, lesion and patient. Of several
that fit, the one with most tell-tale columns is taken.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator
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


def _hint(table: Table, source: Source) -> str:
    """What is wrong with a table that names images, with the options that would make it understood."""
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
    """What is missing where folders are a layout's parts and its table is not there; "" elsewhere."""
    for layout in registry():
        parts = layout.parts if isinstance(layout, Layout) else None
        place = next((f for f in source.images.files if parts and in_part(f, parts)), None)
        if place is not None:
            name = next(part for part in place.path.parent.parts if parts and parts.fullmatch(part))
            return (
                f"has {name} but no table with {', '.join(c for c, *_ in layout.tells)} "
                "(HAM10000_metadata.csv): "
                "put the release's table beside the images and give their common folder"
            )
    return ""


def titles() -> Iterator[str]:
    """What the layouts are called."""
    return (layout.title for layout in registry())
