"""The text of `hpc/launch.py --help KEY`: a setting, a group, or all as docs/settings.md. No torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import groupby
from typing import Any, Literal, get_args, get_origin

from hpc.settings.ablation import AblateSettings, ClassifierPlan
from hpc.settings.compose import CHOICES, Experiment
from skin_gan.errors import SkinGanError
from skin_gan.installation import ROOT
from skin_gan.presets import PRESETS
from skin_gan.ranges import Described, described

EVERY = "all"
LONG = 40  # longer values, in characters, are not shown in a list of files
TYPES: dict[Any, str] = {
    int: "whole number", float: "number", bool: "true or false", str: "text", Any: "any",
}  # fmt: skip
PAGE = """\
# Settings

Every setting of a launch, which `python hpc/launch.py KEY=VALUE` sets. Do not edit: this page is made from
the code by `python hpc/launch.py --help all > docs/settings.md`."""


def help_on(key: str) -> str:
    """The help on a setting, on each setting of a group, or, for "all", the reference page.

    SkinGanError, with similar keys, for an unknown one.
    """
    if key == EVERY:
        return page()
    key = re.sub(r"^ablate\.classifiers\.\w+", "ablate.classifiers.NAME", key.partition("=")[0])
    known = {d.name: d for d in settings()}
    if key in known:
        return "\n".join(explained(known[key]))
    if group := [d for d in known.values() if d.name.startswith(f"{key}.")]:
        words = {d.name: f"{d.name}={shown(d.value)}" for d in group}
        width = max(map(len, words.values()))
        rows = [f"  {words[d.name]:<{width}}  {d.setting.meaning}" for d in group]
        return "\n".join([f"{key}: {about(key, group)}".rstrip(": "), *rows])
    for d in known.values():  # a mapping with keys that the user chooses
        if get_origin(d.kind) is dict and key.startswith(f"{d.name}."):
            return "\n".join(explained(d))
    raise SkinGanError(f"there is no setting {key!r}: {suggestion(key, [*known])}")


def settings() -> list[Described]:
    """Every setting with its default; NAME stands for a classifier."""
    return list(described(Experiment(ablate=AblateSettings(classifiers={"NAME": ClassifierPlan()}))))


def explained(d: Described) -> Iterator[str]:
    """The lines about one setting."""
    yield f"{d.name}: {d.setting.meaning}"
    rows = {
        "type": type_of(d.kind),
        "range": range_of(d),
        "unit": d.setting.unit,
        "default": shown(d.value),
        "set by": ", ".join(word + brief(value) for word, value in set_by(d)),
        "searched by": ", ".join(f"{word} {shown(leaf)}" for word, leaf in searched_by(d.name)),
    }
    yield from (f"  {name:<12} {text}" for name, text in rows.items() if text)


def set_by(d: Described) -> Iterator[tuple[str, Any]]:
    """The presets and files that set a setting, as KEY=NAME, with its value there."""
    for name, preset in PRESETS.items():
        value = next((p.value for p in described(preset, "trial.") if p.name == d.name), d.value)
        if value != d.value:
            yield f"preset={name}", value
    yield from ((word, value) for word, value in in_files(d.name) if value != d.value)


def searched_by(name: str) -> Iterator[tuple[str, Any]]:
    """The sweeps that search a setting of `trial`, each with its distribution."""
    if name.startswith("trial."):
        yield from in_files(name.replace("trial.", "search.space.", 1), kinds=("sweep",))


def in_files(name: str, kinds: tuple[str, ...] = tuple(CHOICES)) -> Iterator[tuple[str, Any]]:
    """The values of a dotted name in all sweeps, budgets and clusters, each with its KEY=NAME."""
    for kind in kinds:
        for file in CHOICES[kind].names():
            value: Any = CHOICES[kind].load(kind, file)
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                yield f"{kind}={file}", value


def suggestion(key: str, names: list[str]) -> str:
    """The names that resemble a key, as a whole or in their last part; else the groups."""
    groups = dict.fromkeys(name.rpartition(".")[0] for name in names if "." in name)
    last = {name: name.rpartition(".")[2] for name in [*names, *groups]}
    whole = difflib.get_close_matches(key, last, n=3, cutoff=0.75)
    alike = difflib.get_close_matches(key.rpartition(".")[2], dict.fromkeys(last.values()), n=2, cutoff=0.75)
    found = dict.fromkeys([*whole, *(name for word in alike for name in last if last[name] == word)])
    if found:
        return f"did you mean {' or '.join(found)}?"
    return f"choose one of {', '.join(dict.fromkeys(name.partition('.')[0] for name in names))}"


def page() -> str:
    """All settings as Markdown: a table for each group."""
    parts = [PAGE]
    for group, rows in groupby(settings(), key=lambda d: d.name.rpartition(".")[0]):
        of_group = list(rows)
        parts += [f"## {group or 'The launch'}\n\n{about(group, of_group)}", table(of_group)]
    return "\n\n".join(parts)


def table(rows: list[Described]) -> str:
    """The settings as a Markdown table."""
    cells = [
        [f"`{d.name}`", f"`{shown(d.value)}`", type_of(d.kind), range_of(d), s.unit, s.meaning]
        for d in rows for s in [d.setting]
    ]  # fmt: skip
    header = ["setting", "default", "type", "range", "unit", "meaning"]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def about(group: str, rows: list[Described]) -> str:
    """The first paragraph of the docstring of a group's class; "" for a group of groups."""
    text = next((d.group.__doc__ for d in rows if d.name.rpartition(".")[0] == group), "")
    return " ".join(text.partition("\n\n")[0].split())


def type_of(kind: Any) -> str:
    """The type of a setting in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is list:
        return f"list of {TYPES[get_args(kind)[0]]}s"
    return TYPES.get(kind, "keys and values")


def range_of(d: Described) -> str:
    """The valid values in words; "" if the type says enough."""
    return d.setting.form or d.setting.bounds


def brief(value: Any) -> str:
    """A value in brackets after a space; "" if it is long."""
    text = shown(value)
    return f" ({text})" if len(text) <= LONG else ""


def shown(value: Any) -> str:
    """A value as on a command line; paths inside this checkout are relative."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        items = (f"{key}: {shown(item)}" for key, item in value.items() if not is_dataclass(item))
        return f"{{{', '.join(items)}}}"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value).replace(f"{ROOT}/", "")
    return "none" if text == "???" else text or '""'
