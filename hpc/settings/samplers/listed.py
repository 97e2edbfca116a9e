"""The rows of a table: trial i takes option i of each searched setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc.settings.space import Distribution
from skin_gan.errors import SkinGanError


def draw(space: Mapping[str, Distribution], seed: int, label: str, index: int) -> dict[str, Any]:
    """Row `index` of the table whose columns are the settings' choices, the same for every class.

    Row 0 says what trial 0 has as published, and is drawn without `search.baseline` only.
    """
    return {name: d.values[index] for name, d in space.items()}


def most(space: Mapping[str, Distribution]) -> int:
    """The number of rows. SkinGanError if the columns are no choices or not of one length."""
    rows = {name: len(d.values) if d.how == "choice" else 0 for name, d in space.items()}
    if 0 in rows.values() or len(set(rows.values())) > 1:
        given = ", ".join(f"{name} has {n}" if n else f"{name} is a range" for name, n in rows.items())
        raise SkinGanError(
            f"search.sampler=listed reads the space as a table: expected choices of one length, got {given}"
        )
    return next(iter(rows.values()), 1)
