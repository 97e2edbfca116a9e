"""Joins the groups of equal pictures, so that a split keeps them together. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from skin_gan.data.units import components


def join_duplicates(rows: Sequence[dict[str, str]], content: Sequence[str]) -> list[str]:
    """Give groups that share a picture one name, in place; returns a line for each repeated picture.

    `content` has one entry per row, equal for equal pictures. A joined group takes the alphabetically first
    name of its groups.
    """
    found, joined = [], [[row["group"]] for row in rows]
    first: dict[str, dict[str, str]] = {}
    for row, picture in zip(rows, content, strict=True):
        twin = first.setdefault(picture, row)
        if twin is row:
            continue
        classes = "" if twin["dx"] == row["dx"] else f", as {twin['dx']} and as {row['dx']}"
        found.append(f"{row['image_id']}: the same picture as {twin['image_id']}{classes}")
        joined.append([twin["group"], row["group"]])
    first_group = components(joined)
    for row in rows:
        row["group"] = first_group[row["group"]]
    return found


def mixed_groups(rows: Sequence[dict[str, str]]) -> list[str]:
    """The groups that hold images of more than one class."""
    first: dict[str, str] = {}
    return sorted({r["group"] for r in rows if first.setdefault(r["group"], r["dx"]) != r["dx"]})
