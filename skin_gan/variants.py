"""Finds the variants of a part (a family, a loss, ...) by the names of their files. No torch.

families/NAME.py                    build(m), step(c)
objectives/losses/NAME.py           PAIRED, d_loss(real, fakes, s), g_loss(fake, real, s)
objectives/penalties/NAME.py        NEEDS, penalty(judged); its weight is a setting, loss.NAME
objectives/augmentations/NAME.py    ADAPTIVE, of_real(images, rng, state), of_both(images, rng, state)
metrics/scores/NAME.py              SCORES, score(c)
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from skin_gan.errors import SkinGanError

FAMILIES = "families"
LOSSES, PENALTIES, AUGMENTATIONS = (f"objectives/{p}" for p in ("losses", "penalties", "augmentations"))
SCORES = "metrics/scores"
SHARED = ("__init__", "blocks", "graph", "growing", "plain", "steps")  # other files in these folders


@cache
def names(folder: str, package: str = "skin_gan") -> tuple[str, ...]:
    """Names of the variants in a folder of this package or of one beside it."""
    files = (Path(__file__).parents[1] / package / folder).glob("*.py")
    return tuple(sorted(path.stem for path in files if path.stem not in SHARED))


def about(folder: str, name: str) -> str:
    """The first line of a variant's docstring."""
    return (ast.get_docstring(_parsed(folder, name)) or name).splitlines()[0]


def constant(folder: str, name: str, constant: str) -> Any:
    """A constant of a variant, read from its source without importing it; it has to be a literal."""
    for node in _parsed(folder, name).body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == [constant]:
            return ast.literal_eval(node.value)
    raise SkinGanError(f"skin_gan/{folder}/{name}.py has no {constant}: see those beside it")


def _parsed(folder: str, name: str) -> ast.Module:
    return ast.parse((Path(__file__).parent / folder / f"{name}.py").read_text(encoding="utf-8"))


@cache
def variant(folder: str, name: str, package: str = "skin_gan") -> ModuleType:
    """The module of a variant; SkinGanError that lists the variants if there is none of this name."""
    if name not in (valid := names(folder, package)):
        raise SkinGanError(f"unknown name {name!r}: {package}/{folder} has {', '.join(valid)}")
    return import_module(f"{package}.{folder.replace('/', '.')}.{name}")
