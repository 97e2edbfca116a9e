"""Identity by content: the hash of what was chosen, which is what differs from the defaults. No torch.

A new setting with a default therefore leaves every identity as it is, and so does the order of the fields. A
default that changes is another matter: the schema number, which the hash contains, has to be raised with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any


def content_hash(value: Any, length: int = 10) -> str:
    """Hex digest of a JSON-able value: equal values, equal names, on any machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def identity(schema: int, chosen: Any, length: int = 10) -> str:
    """Hex digest of the record `chosen` (a dataclass) and of its schema number."""
    return content_hash({"schema": schema, **differing(chosen)}, length)


def differing(record: Any) -> dict[str, Any]:
    """Of a record, the fields that differ from their defaults, and those that have none; groups likewise.

    A group (a field that is a record) none of whose settings differs is left out.
    """
    found = {}
    for f in fields(record):
        value, default = getattr(record, f.name), _default(f)
        if is_dataclass(value):
            if group := differing(value):
                found[f.name] = group
        elif value != default or default is MISSING:
            found[f.name] = value
    return found


def whole(record: Any, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """All fields named in `groups` of the record's groups, and those beside them that differ from defaults.

    What schemas have hashed that knew these fields and hashed each of them.
    """
    chosen = differing(record)
    return {
        group: {name: getattr(getattr(record, group), name) for name in names} | chosen.get(group, {})
        for group, names in groups.items()
    }


def _default(f: Field[Any]) -> Any:
    return f.default_factory() if f.default_factory is not MISSING else f.default
