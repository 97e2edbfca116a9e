"""The search space: which settings, drawn how. Trial i of a class depends on (seed, class, i) alone. Pure.

A leaf is {choice: [...]}, in which a value that stands twice is drawn twice as often, {uniform: [low, high]}
or {loguniform: [low, high]}. Ranges of a setting that is a whole number draw whole numbers, low and high too.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from functools import cache
from typing import Any, get_type_hints

from skin_gan.config import TrialSettings, check
from skin_gan.errors import SkinGanError

Path = tuple[str, str]
# Settings that all trials of a sweep share.
UNSEARCHABLE = {
    ("model", "size"): "trials are compared at one size: launch a sweep for each, by trial.model.size=64",
}


DISTRIBUTIONS = ("loguniform", "uniform", "choice")
EVERY = 256  # whole numbers of a range, from its lower end on, that are checked one by one


def leaves(tree: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Each ((group, setting), leaf) of a tree like TrialSettings', in the order of the file."""
    for group, settings in tree.items():
        if not isinstance(settings, dict):
            raise SkinGanError(f"{group}: expected a group of settings, got {settings!r}")
        for name, leaf in settings.items():
            yield (group, name), leaf


def searched(space: dict[str, Any]) -> list[str]:
    """Dotted names of the searched settings, such as `optim.lr_g`."""
    return [".".join(path) for path, _ in leaves(space)]


def check_space(space: dict[str, Any], base: TrialSettings) -> None:
    """Raise one SkinGanError if a leaf names no setting, is no distribution, or may draw an invalid value."""
    for path, leaf in leaves(space):
        name = "search.space." + ".".join(path)
        kind = _type_of(path, name)
        if path in UNSEARCHABLE:
            raise SkinGanError(f"{name}: {UNSEARCHABLE[path]}")
        _check_leaf(name, leaf, kind)
        for value in drawn(leaf, kind):
            try:
                check(with_values(base, {path: value}))
            except SkinGanError as e:
                raise SkinGanError(f"{name}: {e}") from e


def _check_leaf(name: str, leaf: Any, kind: Any) -> None:
    """SkinGanError if a leaf is no distribution of values of the type."""
    if not isinstance(leaf, dict) or len(leaf) != 1 or next(iter(leaf)) not in DISTRIBUTIONS:
        raise SkinGanError(
            f"{name}: expected one of {', '.join(DISTRIBUTIONS)}, such as {{loguniform: [1e-5, 1e-3]}}; "
            f"got {leaf!r}"
        )
    what, values = next(iter(leaf.items()))
    if what == "choice":
        if not isinstance(values, list) or not values:
            raise SkinGanError(f"{name}: choice expects a list of values, got {values!r}")
    elif kind not in (int, float):
        raise SkinGanError(f"{name}: {what} draws numbers, expected one of {', '.join(kind.__args__)} by "
                           "choice, such as {choice: [" + ", ".join(kind.__args__[:2]) + "]}")  # fmt: skip
    elif not _is_range(values, positive=what == "loguniform"):
        least = "above 0 " if what == "loguniform" else ""
        raise SkinGanError(f"{name}: {what} expects [low, high] {least}with low < high, got {values!r}")
    elif kind is int and any(v != int(v) for v in values):
        raise SkinGanError(f"{name}: {what} of a whole number expects whole bounds, got {values!r}")


def drawn(leaf: dict[str, Any], kind: Any) -> list[Any]:
    """Values that stand for all that the leaf, a valid one, draws for a setting of the type.

    All options of a choice; the bounds of a range, and of whole numbers the first `EVERY` too, among which
    each remainder that matters occurs.
    """
    what, values = next(iter(leaf.items()))
    if what == "choice" or kind is not int:
        return list(values)
    low, high = map(int, values)
    return [*range(low, min(high, low + EVERY)), high]


def domain(leaf: dict[str, Any], kind: Any) -> list[Any] | tuple[float, float]:
    """What a setting of the type is drawn from: its different values, or (low, high) of a range."""
    what, values = next(iter(leaf.items()))
    if what == "choice":
        return list(dict.fromkeys(kind(v) if kind in (int, float) else v for v in values))
    return (float(values[0]), float(values[1]))


def domains(space: dict[str, Any]) -> dict[str, list[Any] | tuple[float, float]]:
    """The domain of each searched setting by its dotted name."""
    return {".".join(path): domain(leaf, _type_of(path, ".".join(path))) for path, leaf in leaves(space)}


def _is_range(values: Any, positive: bool) -> bool:
    numbers = isinstance(values, list) and len(values) == 2 and all(map(_is_number, values))
    return numbers and values[0] < values[1] and (values[0] > 0 or not positive)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def draw(space: dict[str, Any], base: TrialSettings, seed: int, label: str, index: int) -> TrialSettings:
    """The settings of trial `index` of class `label`: `base` with each searched setting drawn anew."""
    values: dict[Path, Any] = {}
    for path, leaf in leaves(space):
        # One stream per setting: adding a setting to the space does not change what the others draw.
        rng = random.Random(f"{seed}/{label}/{index}/{'.'.join(path)}")
        values[path] = _draw(rng, leaf, _type_of(path, ".".join(path)))
    return with_values(base, values)


def _draw(rng: random.Random, leaf: dict[str, Any], kind: Any) -> Any:
    what, values = next(iter(leaf.items()))
    if what == "choice":
        return rng.choice(values)
    low, high = values
    if kind is int and what == "uniform":
        return rng.randint(int(low), int(high))
    if kind is int:  # n gets the share that lies between n and n + 1
        return min(max(int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))), int(low)), int(high))
    if what == "uniform":
        return _rounded(rng.uniform(low, high), low, high)
    return _rounded(math.exp(rng.uniform(math.log(low), math.log(high))), low, high)


def _rounded(value: float, low: float, high: float) -> float:
    """The value at four significant digits, or as many more as keep it in the range.

    With four, names and tables stay readable, and no search needs more.
    """
    value = min(max(value, low), high)  # of a logarithm's own rounding
    return next(x for x in (float(f"{value:.{n}g}") for n in range(4, 18)) if low <= x <= high)


def with_values(base: TrialSettings, values: dict[Path, Any]) -> TrialSettings:
    """A copy of `base` with the settings at the given paths replaced, each of its field's type."""
    new = copy.deepcopy(base)
    for (group, name), value in values.items():
        kind = _type_of((group, name), f"{group}.{name}")
        options = getattr(kind, "__args__", None)  # of a Literal
        if options and value not in options:
            raise SkinGanError(f"{value!r} is not one of {', '.join(map(str, options))}")
        if not options and (not _is_number(value) or kind(value) != value):
            raise SkinGanError(f"{value!r} is not {'a whole number' if kind is int else 'a number'}")
        setattr(getattr(new, group), name, value if options else kind(value))
    return new


def value_at(settings: TrialSettings, name: str) -> Any:
    """The setting with a dotted name."""
    group, key = name.split(".")
    return getattr(getattr(settings, group), key)


@cache
def _type_of(path: Path, name: str) -> Any:
    """The type of the setting at `path`: int, float, or a Literal of strings."""
    group, key = path
    groups = get_type_hints(TrialSettings)
    if group not in groups:
        raise SkinGanError(f"{name}: there is no group {group!r}: choose one of {', '.join(groups)}")
    settings = get_type_hints(groups[group])
    if key not in settings:
        raise SkinGanError(f"{name}: there is no setting {key!r}: choose one of {', '.join(settings)}")
    return settings[key]
