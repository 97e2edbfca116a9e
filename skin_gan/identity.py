"""Identities: hashes of the settings that differ from their defaults. No torch.

So identities do not change with the order of the fields or with a new setting that has a default. When a
default changes, the schema number, which is hashed too, has to be raised.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any


def content_hash(value: Any, length: int = 10) -> str:
    """Hex digest of a JSON-able value, the same on any machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_hash(path: Path, length: int = 10) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:length]


def identity(schema: int, chosen: Any, length: int = 10) -> str:
    """Hex digest of the record `chosen` (a dataclass) and of its schema number."""
    return content_hash({"schema": schema, **differing(chosen)}, length)


def differing(record: Any) -> dict[str, Any]:
    """The fields of a record that differ from their defaults or have none, and so for groups in it.

    A group is a field that is a record; one without differences is left out.
    """
    found = {}
    for f in fields(record):
        value = getattr(record, f.name)
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        if is_dataclass(value):
            if group := differing(value):
                found[f.name] = group
        elif value != default or default is MISSING:
            found[f.name] = value
    return found


def whole(record: Any, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """For each group the fields named in `groups`, and other fields that differ from their defaults.

    Early schemas hashed all fields that they knew, whether or not they differed.
    """
    chosen = differing(record)
    return {
        group: {name: getattr(getattr(record, group), name) for name in names} | chosen.get(group, {})
        for group, names in groups.items()
    }
