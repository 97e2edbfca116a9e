"""The range, unit and meaning of a setting, beside its field: its check and description come from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from skin_gan.errors import SkinGanError


@dataclass(frozen=True)
class Setting:
    """What a field stands for, and which values it may have. Numbers have to be finite."""

    meaning: str
    unit: str = ""
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    among: tuple[int, ...] = ()
    multiple: int = 0  # 0: not of anything

    def allows(self, value: Any) -> bool:
        if self.among:
            return value in self.among
        if not isinstance(value, int | float):
            return True  # a name: its type has been checked
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
            and (not self.multiple or value % self.multiple == 0)
        )

    @property
    def expected(self) -> str:
        """The range in words, such as "above 0, below 1"."""
        if self.among:
            *others, last = map(str, self.among)
            return f"{', '.join(others)} or {last}"
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        words = {"above": self.above, "at least": self.least, "below": self.below, "at most": self.most}
        bounds = [f"{word} {bound:g}" for word, bound in words.items() if bound is not None]
        kind = f"a multiple of {self.multiple}" if self.multiple else "a finite number"
        bounded = self.below is not None or self.most is not None
        return ", ".join(bounds if bounded else [kind, *bounds])


def setting(default: Any, meaning: str, **rest: Any) -> Any:
    """A dataclass field with its description; `rest` are other fields of `Setting`."""
    return field(default=default, metadata={"setting": Setting(meaning, **rest)})


@dataclass(frozen=True)
class Described:
    """A setting of a record: what it is called, has and may have."""

    name: str  # dotted
    value: Any
    kind: Any  # int, float, str, or a Literal of names
    setting: Setting

    @property
    def expected(self) -> str:
        """The valid values in words."""
        options = getattr(self.kind, "__args__", ())
        return f"one of {', '.join(options)}" if options else self.setting.expected

    @property
    def valid(self) -> bool:
        options = getattr(self.kind, "__args__", ())
        return self.value in options if options else self.setting.allows(self.value)


def described(record: Any, prefix: str = "") -> Iterator[Described]:
    """Each described setting of a record and its groups."""
    kinds = get_type_hints(type(record))
    for f in fields(record):
        value = getattr(record, f.name)
        if is_dataclass(value):
            yield from described(value, f"{prefix}{f.name}.")
        elif "setting" in f.metadata:
            yield Described(f"{prefix}{f.name}", value, kinds[f.name], f.metadata["setting"])


def out_of_range(record: Any, prefix: str = "") -> list[str]:
    """For each setting that is out of its range, its value and what was expected."""
    return [f"{d.name}={d.value}: expected {d.expected}" for d in described(record, prefix) if not d.valid]


def check_ranges(record: Any, prefix: str = "") -> None:
    """Raise one SkinGanError that names each setting out of its range."""
    if wrong := out_of_range(record, prefix):
        raise SkinGanError("settings out of range: " + "; ".join(wrong))
