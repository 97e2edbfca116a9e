"""YAML, in files and in words of a command line, as trees of plain values. No torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skin_gan.errors import SkinGanError

CLOCK = re.compile(r"[-+]?([1-9][\d_]*(:[0-5]?\d)+|\d[\d_]*(:[0-5]?\d)+\.[\d_]*)")  # of YAML 1.1


def read_yaml(path: Path) -> dict[str, Any]:
    """The tree in a YAML file, read by OmegaConf's rules (where 1e-4 is a number)."""
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path))
        refuse_clocks(path.read_text(), f"in {path}")
    except FileNotFoundError as e:
        raise SkinGanError(f"{path.parent} is not a sweep's folder: it has no {path.name}") from e
    except (OmegaConfBaseException, yaml.YAMLError, OSError, ValueError) as e:
        raise SkinGanError(f"cannot read {path}: {first_line(e)}") from e
    return tree  # type: ignore[return-value]


def read_words(words: list[str]) -> dict[str, Any]:
    """`["a.b=1", "c=[x,y]"]` as a tree; values are YAML."""
    try:
        tree = OmegaConf.to_container(OmegaConf.from_dotlist(words))
        for word in words:
            refuse_clocks(word.partition("=")[2], f"in {word}")
    except (OmegaConfBaseException, yaml.YAMLError) as e:
        raise SkinGanError(
            f"cannot read {' '.join(words)!r} as YAML: {first_line(e)}; "
            "quote lists and mappings, with a space after each colon: 'search.rungs=[4,12]'"
        ) from e
    return tree  # type: ignore[return-value]


def refuse_clocks(text: str, where: str) -> None:
    """SkinGanError for a value like 24:00:00 without quotes: YAML 1.1 makes it a number to the base 60."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        plain = isinstance(event, yaml.ScalarEvent) and event.implicit[0]
        if plain and CLOCK.fullmatch(event.value):
            raise SkinGanError(
                f"{event.value} {where}: YAML reads that as a number to the base 60; write a whole number, "
                "such as profile.minutes=1440, or put quotes around it"
            )


def first_line(e: Exception) -> str:
    return str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
