"""Reads YAML files and command lines as trees whose values have the types of a schema. No torch.

YAML guesses types: it reads 2024_05_01 as a number, 12:30 as a number to the base 60, and `on` as true. Here
every scalar is read as text, and `typed` converts it only where the schema, a dataclass, expects a number or
a truth value. Where the schema has the type Any, the rules of YAML 1.2 apply.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from skin_gan.errors import SkinGanError

INTEGER = re.compile(r"[-+]?\d+(_\d+)*|0x[\da-fA-F]+|0o[0-7]+")
FLOAT = re.compile(r"[-+]?(\d+(_\d+)*\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.?(inf|Inf|INF)|\.?(nan|NaN|NAN)")
TRUE, FALSE = ("true", "yes", "on", "y", "1"), ("false", "no", "off", "n", "0")
NULL = ("", "~", "null", "Null", "NULL")
LONG = 80  # characters of a value that an error shows at most
WRITTEN = {list: "a list such as [a, b]", dict: "keys and values such as {a: b}"}
# Syntax of OmegaConf: references such as ${oc.env:HOME}, and a missing value.
REFERENCE, MISSING = "${", "???"


class Plain(str):
    """A scalar that was written without quotes."""


class Loader(yaml.SafeLoader):
    """Reads scalars as text: unquoted ones as Plain, quoted ones as str. Rejects repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(problem=f"the key {twice} occurs twice")
        self.flatten_mapping(node)
        made: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(problem="a list or a mapping cannot be a key")
            made[str(key.value)] = self.construct_object(value, deep=True)
        return made


def _scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return Plain(node.value) if node.style is None else str(node.value)


# No rules that guess types; only `<<`, which merges one mapping into another, is left.
Loader.yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile("<<"))]}
Loader.add_constructor("tag:yaml.org,2002:str", _scalar)
Loader.add_constructor(
    "tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node, deep=True)
)


def read_text(path: Path) -> dict[str, Any]:
    """The tree in a YAML file with every scalar as text, for `typed`."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError as e:
        raise SkinGanError(f"{path.parent} is not a sweep's folder: it has no {path.name}") from e
    except (yaml.YAMLError, OSError, ValueError) as e:
        raise SkinGanError(f"cannot read {path}: {first_line(e)}") from e
    return tree or {}


def read_words(words: list[str], schema: type) -> dict[str, Any]:
    """Parse `["a.b=1", "c=[x,y]"]` into a tree of text; lists and mappings are in YAML, the last word wins.

    Where the schema has text, a number or a choice, the value is all after the `=`, including colons and
    hashes; only quotes around the whole value are removed.
    """
    tree: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        path = key.split(".")
        value = _value(word, text, _hint(schema, path))
        for part in reversed(path):
            value = {part: value}
        tree = _merged(tree, value)
    return tree


def _merged(tree: Any, later: Any) -> Any:
    """Two trees merged: mappings are joined, other values of `later` replace those of `tree`."""
    if not (isinstance(tree, dict) and isinstance(later, dict)):
        return later
    return {**tree, **{key: _merged(tree.get(key), value) for key, value in later.items()}}


def _value(word: str, text: str, hint: Any) -> Any:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if not quoted and (hint in (str, int, float, bool) or get_origin(hint) is Literal):
        return Plain(text)
    try:
        return yaml.load(text, Loader) if text.strip() else Plain(text)
    except (yaml.YAMLError, ValueError) as e:
        raise SkinGanError(
            f"cannot read {word!r} as YAML: {first_line(e)}; "
            "quote lists and mappings, with a space after each colon: 'search.rungs=[4,12]'"
        ) from e


def _hint(schema: Any, path: list[str]) -> Any:
    """The type of the setting at the path; Any if it is unknown."""
    for part in path:
        if dataclasses.is_dataclass(schema):
            schema = get_type_hints(schema).get(part, Any)
        elif get_origin(schema) is dict:
            schema = get_args(schema)[1]
        else:
            return Any
    return schema


def typed(tree: Any, hint: Any, where: str, key: str = "") -> Any:
    """Convert a tree of text to the types of `hint`, a dataclass or the type of a field.

    SkinGanError for an unknown key, with the known ones, or a value of another type. Messages name `key`, the
    dotted name of the tree, and `where` it was written.
    """
    if dataclasses.is_dataclass(hint):
        return _fields(tree, hint, where, key)
    kind, inner = get_origin(hint), get_args(hint)
    if kind in WRITTEN:
        if not isinstance(tree, kind):
            raise SkinGanError(f"{key} {where}: expected {WRITTEN[kind]}, got {shown(tree)}")
        if kind is dict:
            return {name: typed(value, inner[1], where, f"{key}.{name}") for name, value in tree.items()}
        return [typed(value, inner[0], where, f"{key}[{i}]") for i, value in enumerate(tree)]
    if hint is Any:
        return guess(tree)
    if isinstance(tree, (list, dict)):
        raise SkinGanError(f"{key} {where}: expected {_expected(hint)}, got {shown(tree)}")
    return _scalar_of(tree, hint, where, key)


def _fields(tree: Any, schema: Any, where: str, key: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise SkinGanError(f"{key or 'settings'} {where}: expected keys and values, got {shown(tree)}")
    hints = get_type_hints(schema)
    prefix = f"{key}." if key else ""
    made = {}
    for name, value in tree.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            raise SkinGanError(f"unknown key {prefix}{name} {where}: choose one of {', '.join(hints)}{hint}")
        made[name] = typed(value, hints[name], where, prefix + name)
    return made


def _scalar_of(text: Any, hint: Any, where: str, key: str) -> Any:
    """A scalar converted to the type `hint`."""
    if not isinstance(text, str):  # it has an explicit tag, such as !!int
        return text
    if text == MISSING:
        raise SkinGanError(f"{key} {where}: expected {_expected(hint)}, got '{MISSING}', which is no value")
    if hint is str or REFERENCE in text:
        return str(text)
    found: Any = None
    if get_origin(hint) is Literal:
        found = str(text) if text in get_args(hint) else None
    elif get_origin(hint) in (Union, types.UnionType):  # text, except true, false and null of YAML 1.2
        return guess(text) if text.lower() in ("true", "false") or text in NULL else str(text)
    elif hint is bool:
        found = True if text.lower() in TRUE else False if text.lower() in FALSE else None
    elif hint is int:
        found = _integer(text)
    elif hint is float:
        found = _float(text)
    if found is None:
        raise SkinGanError(f"{key} {where}: expected {_expected(hint)}, got {shown(text)}")
    return found


def _expected(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(hint, "text")


def guess(tree: Any) -> Any:
    """Convert unquoted numbers, true, false and null of a tree by the rules of YAML 1.2."""
    if isinstance(tree, dict):
        return {key: guess(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [guess(value) for value in tree]
    if not isinstance(tree, Plain):
        return tree
    if tree in NULL:
        return None
    if tree.lower() in ("true", "false"):
        return tree.lower() == "true"
    for number in (_integer(tree), _float(tree)):
        if number is not None and tree.lower() not in ("inf", "nan", "+inf", "-inf"):
            return number
    return str(tree)


def _integer(text: str) -> int | None:
    if len(text) > 300 or not text.isascii() or not INTEGER.fullmatch(text):  # Python limits digits
        return None
    return int(text, 0 if text.startswith(("0x", "0o")) else 10)


def _float(text: str) -> float | None:
    if not text.isascii() or not FLOAT.fullmatch(text):
        return None if (whole := _integer(text)) is None else float(whole)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def shown(tree: Any) -> str:
    """A tree as text for an error, shortened if it is long."""
    text = str(tree) if isinstance(tree, (list, dict)) else repr(str(tree))
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def first_line(e: Exception) -> str:
    """The message of an error on one line, with the line number of a YAML error."""
    if isinstance(e, yaml.MarkedYAMLError) and e.problem:
        line = f" (line {e.problem_mark.line + 1})" if e.problem_mark and e.problem_mark.line else ""
        return e.problem + line
    return str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
