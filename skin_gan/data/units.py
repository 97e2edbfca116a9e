"""Units of the split: images that share a lesion, a patient or any other stated group. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from skin_gan.data.listing import Key, Row

T = TypeVar("T", bound=str | Key)


def components(sets: Sequence[Sequence[T]]) -> dict[T, T]:
    """For each item the smallest item of its component: sets that share an item are in one component."""
    parent: dict[T, T] = {}

    def root(item: T) -> T:
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, *others in sets:
        root(first)
        for item in others:
            low, high = sorted((root(first), root(item)))
            parent[high] = low
    return {item: root(item) for item in parent}


def grouped(rows: Sequence[Row]) -> list[Row]:
    """The rows with their `group`: images that a chain of shared keys joins are in one unit.

    So grouping by patient joins a patient's lesions, and an image without keys is a unit by itself. A unit
    is named after its patient, else its lesion, else its first key, else its image. If two units would have
    one name, all names begin with the kind.
    """
    own = [row.keys or (("image", row.image_id),) for row in rows]
    top_of = components(own)
    members: dict[Key, list[Key]] = {}
    for key, top in top_of.items():
        members.setdefault(top, []).append(key)
    rank = {"patient": 0, "lesion": 1}
    named = {top: min(keys, key=lambda k: (rank.get(k[0], 2), *k)) for top, keys in members.items()}
    clash = len({value for _, value in named.values()}) < len(named)
    name = {top: f"{kind} {value}" if clash else value for top, (kind, value) in named.items()}
    return [replace(row, group=name[top_of[keys[0]]]) for row, keys in zip(rows, own, strict=True)]


def unit_of(kinds: Sequence[str]) -> str:
    """The unit of a store's split: "lesion", "patient", "image" if no unit is known, else "group".

    `kinds`: the widest known unit of each image, or "".
    """
    found = set(kinds)
    if found == {""}:
        return "image"
    return found.pop() if len(found) == 1 and found <= {"lesion", "patient"} else "group"


def unit_note(kinds: Sequence[str], lesions: int) -> str:
    """One sentence on what the split keeps together; `lesions`: number of images whose lesion is known."""
    n, unit = len(kinds), unit_of(kinds)
    unknown = sum(kind == "" for kind in kinds)
    apart = "photographs of one lesion may lie in several parts"
    if unit == "image":
        return f"lesions are not known: the unit is the image, and {apart}"
    patients = sum(kind == "patient" for kind in kinds)
    others = Counter(kind for kind in kinds if kind not in ("", "patient", "lesion"))
    known = " and ".join(
        f"{kind} are known for {count if count < n else 'all'} of {n} images"
        for kind, count in (("lesions", lesions), ("patients", patients), *others.items())
        if count
    )
    if not unknown:
        kept = {"lesion": "the lesion", "patient": "the patient"}.get(unit, "whatever of these is known")
        return f"{known}: the unit is {kept}"
    return (
        f"{known}: these are kept together; each of the other {unknown} images is a unit of its own, "
        f"and among those {apart}"
    )
