"""Describes settings by range, unit and meaning at their fields; validation and help are made of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

from skin_gan.errors import SkinGanError


@dataclass(frozen=True)
class Setting:
    """A field's meaning and valid values. Numbers have to be finite. Bounds of a list hold for each item."""

    meaning: str
    unit: str = ""
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    among: tuple[Any, ...] = ()
    multiple: int = 0  # 0: not of anything
    form: str = ""  # the valid values in words; "": the bounds in words
    rule: Callable[[Any], bool] | None = None  # a check beyond the bounds, described by `form`

    def allows(self, value: Any) -> bool:
        items = value if isinstance(value, list) else [value]
        return all(map(self._allows_item, items)) and (self.rule is None or self.rule(value))

    def _allows_item(self, value: Any) -> bool:
        if self.among:
            return value in self.among
        if not isinstance(value, int | float):
            return True  # a string, whose type has been checked
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
            and (not self.multiple or value % self.multiple == 0)
        )

    @property
    def bounds(self) -> str:
        """The range in words, such as "above 0, below 1"; "" if there is none."""
        if self.among:
            *others, last = map(str, self.among)
            return f"{', '.join(others)} or {last}"
        limits = {"above": self.above, "at least": self.least, "below": self.below, "at most": self.most}
        bounds = [f"{word} {limit:g}" for word, limit in limits.items() if limit is not None]
        if self.least is not None and self.most is not None:
            bounds = [f"{self.least:g} to {self.most:g}"]
        return ", ".join([*([f"a multiple of {self.multiple}"] if self.multiple else []), *bounds])


def setting(default: Any, meaning: str, **rest: Any) -> Any:
    """A dataclass field with its description; `rest` are other fields of `Setting`."""
    metadata = {"setting": Setting(meaning, **rest)}
    if isinstance(default, list | dict):  # each record gets a copy
        return field(default_factory=partial(deepcopy, default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Described:
    """A setting of a record: its name, value, type and description."""

    name: str  # dotted
    value: Any
    kind: Any  # int, float, bool, str, list[int], a Literal of names, ...
    setting: Setting
    group: Any  # the dataclass that has the field

    @property
    def expected(self) -> str:
        """The valid values in words; "" where every value of the type is valid."""
        s = self.setting
        if s.form:
            return s.form
        if get_origin(self.kind) is Literal:
            return f"one of {', '.join(get_args(self.kind))}"
        bounds = s.bounds
        if float in (self.kind, *get_args(self.kind)) and s.below is None and s.most is None and not s.among:
            bounds = f"a finite number, {bounds}" if bounds else "a finite number"
        return f"each of {bounds}" if bounds and get_origin(self.kind) is list else bounds

    @property
    def valid(self) -> bool:
        if get_origin(self.kind) is Literal:
            return self.value in get_args(self.kind)
        return self.setting.allows(self.value)


def described(record: Any, prefix: str = "") -> Iterator[Described]:
    """Each described setting of a record, then those of its groups, and of the records in its dicts."""
    kinds, values = get_type_hints(type(record)), {f.name: getattr(record, f.name) for f in fields(record)}
    for f in fields(record):
        if "setting" in f.metadata:
            yield Described(
                f"{prefix}{f.name}", values[f.name], kinds[f.name], f.metadata["setting"], type(record)
            )
    for name, value in values.items():
        for key, item in value.items() if isinstance(value, dict) else [("", value)]:
            if is_dataclass(item):
                yield from described(item, ".".join(filter(None, (prefix[:-1], name, key))) + ".")


def out_of_range(record: Any, prefix: str = "", skip: tuple[str, ...] = ()) -> list[str]:
    """A text with value and valid range for each setting out of its range.

    `skip`: settings whose dotted names begin with one of these are not checked.
    """
    every = (d for d in described(record, prefix) if not d.name.startswith(skip))
    return [f"{d.name}={d.value}: expected {d.expected}" for d in every if not d.valid]


def check_ranges(record: Any, skip: tuple[str, ...] = ()) -> None:
    """Raise one SkinGanError that names each setting out of its range; `skip` as in `out_of_range`."""
    if wrong := out_of_range(record, skip=skip):
        raise SkinGanError("settings out of range: " + "; ".join(wrong))
