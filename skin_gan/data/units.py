"""Units of the split: images that share a lesion, a patient or any other stated group. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from skin_gan.data.listing import Key, Row


def grouped(rows: Sequence[Row]) -> list[Row]:
    """The rows with the unit of each: images are in one if a chain of shared keys joins them.

    So grouping by patient joins a patient's lesions, and an image of which nothing is known stays alone. A
    unit is called after its patient, else its lesion, else the first of its keys, else its image; where two
    units would have one name, all names say what they are of.
    """
    parent: dict[Key, Key] = {}

    def root(key: Key) -> Key:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    own = [row.keys or (("image", row.image_id),) for row in rows]
    for keys in own:
        for key in keys[1:]:
            low, high = sorted((root(keys[0]), root(key)))
            parent[high] = low
        root(keys[0])
    members: dict[Key, list[Key]] = {}
    for key in parent:
        members.setdefault(root(key), []).append(key)
    named = {top: min(keys, key=_rank) for top, keys in members.items()}
    plain = Counter(value for _, value in named.values())
    clash = any(n > 1 for n in plain.values())
    name = {top: f"{kind} {value}" if clash else value for top, (kind, value) in named.items()}
    return [replace(row, group=name[root(keys[0])]) for row, keys in zip(rows, own, strict=True)]


def _rank(key: Key) -> tuple[int, str, str]:
    kind, value = key
    return {"patient": 0, "lesion": 1}.get(kind, 2), kind, value


def unit_of(kinds: Sequence[str]) -> str:
    """What the units of a store are: "lesion", "patient", "image" where nothing is known, else "group".

    `kinds` has for each image the widest thing that is known of it, or "".
    """
    found = set(kinds)
    if found == {""}:
        return "image"
    return found.pop() if len(found) == 1 and found <= {"lesion", "patient"} else "group"


def unit_note(kinds: Sequence[str], lesions: int) -> str:
    """One sentence on what the split keeps together; `lesions` counts the images whose lesion is known."""
    n, unit = len(kinds), unit_of(kinds)
    unknown = sum(kind == "" for kind in kinds)
    apart = "photographs of one lesion may lie in several parts"
    if unit == "image":
        return f"lesions are not known: the unit is the image, and {apart}"
    said = []
    patients = sum(kind == "patient" for kind in kinds)
    others = Counter(kind for kind in kinds if kind not in ("", "patient", "lesion"))
    for kind, count in (("lesions", lesions), ("patients", patients), *others.items()):
        if count:
            said.append(f"{kind} are known for {count if count < n else 'all'} of {n} images")
    if not unknown:
        kept = {"lesion": "the lesion", "patient": "the patient"}.get(unit, "whatever of these is known")
        return f"{' and '.join(said)}: the unit is {kept}"
    return (
        f"{' and '.join(said)}: these are kept together; each of the other {unknown} images is a unit "
        "of its own, "
        f"and among those {apart}"
    )
