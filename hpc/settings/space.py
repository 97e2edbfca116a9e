"""The search space: the distribution of each searched setting.

A leaf is {choice: [...]}, where a repeated value is drawn more often, {uniform: [low, high]} or {loguniform:
[low, high]}. For whole-number settings ranges draw whole numbers, including low and high. Trial i of a class
depends on (seed, class, i) only; with an adaptive sampler also on what earlier trials have shown, see
`hpc.settings.samplers`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, get_type_hints

from skin_gan.config import TrialSettings, check
from skin_gan.errors import SkinGanError
from skin_gan.variants import variant

Path = tuple[str, str]
SAMPLERS = "settings/samplers"  # a folder in this package with a file for each
RANDOM = "random"  # the first sampler, which is not part of a sweep's identity
STARTUP = "sobol"  # the sampler of the trials from which an adaptive one learns
# Settings that all trials of a sweep share, and why.
UNDRAWN = {
    (("model", "discriminator"), "auto"): "auto is settled once for a sweep: list own, projected or both",
}
UNSEARCHABLE = {
    ("model", "size"): "trials are compared at one size: launch a sweep for each, by trial.model.size=64",
}
DISTRIBUTIONS = ("loguniform", "uniform", "choice")
OPTIONS = {bool: (True, False)}
EVERY = 256  # how many whole numbers of a range are validated, from its lower end


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
    """SkinGanError if a leaf names an unknown setting, is no distribution, or may draw an invalid value."""
    for path, leaf in leaves(space):
        setting = ".".join(path)
        name = f"search.space.{setting}"
        kind = _type_of(setting, "search.space.")
        if path in UNSEARCHABLE:
            raise SkinGanError(f"{name}: {UNSEARCHABLE[path]}")
        _check_leaf(name, leaf, kind)
        for value in _distribution(leaf, setting).typical():
            if (path, value) in UNDRAWN:
                raise SkinGanError(f"{name}: {UNDRAWN[path, value]}")
            try:
                check(with_values(base, {setting: value}))
            except SkinGanError as e:
                raise SkinGanError(f"{name}: {e}") from e


def _check_leaf(name: str, leaf: Any, kind: Any) -> None:
    """SkinGanError if a leaf is not a distribution of values of the type `kind`."""
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
        options = ["true", "false"] if kind is bool else kind.__args__
        raise SkinGanError(f"{name}: {what} draws numbers, expected one of {', '.join(options)} by choice, "
                           "such as {choice: [" + ", ".join(options[:2]) + "]}")  # fmt: skip
    elif not _is_range(values, positive=what == "loguniform"):
        least = "above 0 " if what == "loguniform" else ""
        raise SkinGanError(f"{name}: {what} expects [low, high] {least}with low < high, got {values!r}")
    elif kind is int and any(v != int(v) for v in values):
        raise SkinGanError(f"{name}: {what} of a whole number expects whole bounds, got {values!r}")


class Distribution(NamedTuple):
    """The distribution of one searched setting."""

    how: str  # choice, uniform or loguniform
    values: list[Any]  # the options of a choice; of a range its low and high
    kind: Any  # type of the setting: int, float, bool, or a Literal of strings

    def at(self, u: float) -> Any:
        """The value at the quantile `u`, 0 <= u < 1: equal shares of u are equally likely."""
        if self.how == "choice":
            return self.values[int(u * len(self.values))]
        low, high = self.values
        if self.kind is int:  # n has the share that lies between n and n + 1
            return min(max(int(self._between(low, high + 1, u)), int(low)), int(high))
        return _rounded(self._between(low, high, u), low, high)

    def rounded(self, value: Any) -> Any:
        """A value of the distribution at as few digits as `at` gives."""
        return value if self.how == "choice" or self.kind is int else _rounded(value, *self.values)

    def holds(self, value: Any) -> bool:
        """Whether the distribution may draw this value of the setting's type."""
        return value in self.domain if self.how == "choice" else self.values[0] <= value <= self.values[1]

    def _between(self, low: float, high: float, u: float) -> float:
        if self.how == "uniform":
            return low + (high - low) * u
        return math.exp(math.log(low) + (math.log(high) - math.log(low)) * u)

    @property
    def domain(self) -> list[Any] | tuple[float, float]:
        """The different options of a choice, each of the setting's type, or (low, high) of a range."""
        if self.how == "choice":
            return list(dict.fromkeys(self.kind(v) if self.kind in (int, float) else v for v in self.values))
        return (float(self.values[0]), float(self.values[1]))

    def typical(self) -> list[Any]:
        """Values to validate in place of all that may be drawn.

        These are all options of a choice, and the bounds of a range. For whole numbers they include the first
        `EVERY` too, so that rules about remainders are tested.
        """
        if self.how == "choice" or self.kind is not int:
            return list(self.values)
        low, high = map(int, self.values)
        return [*range(low, min(high, low + EVERY)), high]


def distributions(space: dict[str, Any]) -> dict[str, Distribution]:
    """The distribution of each searched setting by its dotted name."""
    return {(name := ".".join(path)): _distribution(leaf, name) for path, leaf in leaves(space)}


def _distribution(leaf: dict[str, Any], name: str) -> Distribution:
    ((how, values),) = leaf.items()
    return Distribution(how, values, _type_of(name))


def _is_range(values: Any, positive: bool) -> bool:
    numbers = isinstance(values, list) and len(values) == 2 and all(map(_is_number, values))
    return numbers and values[0] < values[1] and (values[0] > 0 or not positive)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def adaptive(sampler: str) -> bool:
    """Whether the sampler proposes trials from what earlier ones have shown."""
    return hasattr(variant(SAMPLERS, sampler, "hpc"), "propose")


def ordered(space: dict[str, Any]) -> dict[str, Distribution]:
    """The distributions as samplers get them: the order in the file must not matter."""
    return dict(sorted(distributions(space).items()))


def draw(
    space: dict[str, Any], base: TrialSettings, seed: int, label: str, index: int, sampler: str = RANDOM
) -> TrialSettings:
    """The settings of trial `index` of class `label`: `base` with each searched setting drawn."""
    return with_values(base, variant(SAMPLERS, sampler, "hpc").draw(ordered(space), seed, label, index))


def most_trials(space: dict[str, Any], sampler: str) -> float:
    """How many trials of a class the sampler can draw, the first one included: infinite unless it says so."""
    module = variant(SAMPLERS, sampler, "hpc")
    return module.most(distributions(space)) if hasattr(module, "most") else math.inf


def _rounded(value: float, low: float, high: float) -> float:
    """The value at four significant digits, for readable tables, or as many more as keep it in the range."""
    value = min(max(value, low), high)  # rounding of a logarithm may leave the range
    return next(x for x in (float(f"{value:.{n}g}") for n in range(4, 18)) if low <= x <= high)


def with_values(base: TrialSettings, values: dict[str, Any]) -> TrialSettings:
    """A copy of `base` with the settings of these dotted names replaced and converted to their types."""
    new = replace(base, **{group: copy.copy(settings) for group, settings in vars(base).items()})
    for name, value in values.items():
        kind = _type_of(name)
        options = OPTIONS.get(kind) or getattr(kind, "__args__", None)  # the strings of a Literal
        if options and (value not in options or type(value) is not type(options[0])):
            raise SkinGanError(f"{value!r} is not one of {', '.join(map(str, options))}")
        if not options and (not _is_number(value) or kind(value) != value):
            raise SkinGanError(f"{value!r} is not {'a whole number' if kind is int else 'a number'}")
        group, key = name.split(".")
        setattr(getattr(new, group), key, value if options else kind(value))
    return new


def value_at(settings: TrialSettings, name: str) -> Any:
    """The setting with a dotted name."""
    group, key = name.split(".")
    return getattr(getattr(settings, group), key)


@cache
def _type_of(name: str, where: str = "") -> Any:
    """The type of the setting with a dotted name: int, float, bool, or a Literal of strings.

    SkinGanError, with the valid choices, for an unknown name, which it shows with the prefix `where`.
    """
    group, key = name.split(".", 1)
    groups = get_type_hints(TrialSettings)
    if group not in groups:
        raise SkinGanError(f"{where}{name}: there is no group {group!r}: choose one of {', '.join(groups)}")
    settings = get_type_hints(groups[group])
    if key not in settings:
        raise SkinGanError(f"{where}{name}: there is no setting {key!r}: choose one of {', '.join(settings)}")
    return settings[key]
