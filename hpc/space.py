"""The search space: which settings, drawn how. Trial i of a class depends on (seed, class, i) alone. Pure."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, get_type_hints

from skin_gan.config import TrialSettings, check
from skin_gan.errors import SkinGanError

Path = tuple[str, str]


def _loguniform(rng: random.Random, low: float, high: float) -> float:
    # Four significant digits: names and tables stay readable, and no search needs more.
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")


def _uniform(rng: random.Random, low: float, high: float) -> float:
    return float(f"{rng.uniform(low, high):.4g}")


DISTRIBUTIONS: dict[str, Callable[..., Any]] = {
    "loguniform": _loguniform,
    "uniform": _uniform,
    "choice": lambda rng, *options: rng.choice(options),
}


def leaves(tree: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Each ((group, setting), leaf) of a tree like TrialSettings', in the order of the file."""
    for group, settings in tree.items():
        if not isinstance(settings, dict):
            raise SkinGanError(f"{group}: expected a group of settings, came {settings!r}")
        for name, leaf in settings.items():
            yield (group, name), leaf


def searched(space: dict[str, Any]) -> list[str]:
    """Dotted names of the searched settings, such as `optim.lr_g`."""
    return [".".join(path) for path, _ in leaves(space)]


def check_space(space: dict[str, Any], base: TrialSettings) -> None:
    """Raise one SkinGanError if a leaf names no setting, is no distribution, or draws an invalid value."""
    for path, leaf in leaves(space):
        name = "search.space." + ".".join(path)
        _type_of(path, name)
        for value in _extremes(name, leaf):
            try:
                check(with_values(base, {path: value}))
            except SkinGanError as e:
                raise SkinGanError(f"{name}: {e}") from e


def _extremes(name: str, leaf: Any) -> list[Any]:
    """Values that stand for all that a distribution draws; SkinGanError if it is none."""
    if not isinstance(leaf, dict) or len(leaf) != 1 or next(iter(leaf)) not in DISTRIBUTIONS:
        raise SkinGanError(
            f"{name}: expected one of {', '.join(DISTRIBUTIONS)}, such as {{loguniform: [1e-5, 1e-3]}}; "
            f"came {leaf!r}"
        )
    kind, values = next(iter(leaf.items()))
    if kind == "choice":
        if not isinstance(values, list) or not values:
            raise SkinGanError(f"{name}: choice expects a list of values, came {values!r}")
    elif not _is_range(values, positive=kind == "loguniform"):
        least = "above 0 " if kind == "loguniform" else ""
        raise SkinGanError(f"{name}: {kind} expects [low, high] {least}with low < high, came {values!r}")
    return values


def _is_range(values: Any, positive: bool) -> bool:
    numbers = isinstance(values, list) and len(values) == 2 and all(map(_is_number, values))
    return numbers and values[0] < values[1] and (values[0] > 0 or not positive)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def draw(space: dict[str, Any], base: TrialSettings, seed: int, label: str, index: int) -> TrialSettings:
    """The settings of trial `index` of class `label`: `base` with each searched setting drawn anew."""
    values: dict[Path, Any] = {}
    for path, leaf in leaves(space):
        kind, arguments = next(iter(leaf.items()))
        # One stream per setting: adding a setting to the space does not change what the others draw.
        rng = random.Random(f"{seed}/{label}/{index}/{'.'.join(path)}")
        values[path] = DISTRIBUTIONS[kind](rng, *arguments)
    return with_values(base, values)


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
