"""Published settings, each a YAML file in this folder. No torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from skin_gan.config import TrialSettings, check
from skin_gan.errors import SkinGanError


def load(path: Path) -> TrialSettings:
    """The settings in a YAML file, which holds groups of settings that differ from the defaults.

    SkinGanError for names that are no settings and for values out of range.
    """
    tree = yaml.safe_load(path.read_text())
    try:
        groups = {
            name: _group(kind, tree.pop(name, {})) for name, kind in get_type_hints(TrialSettings).items()
        }
        if tree:
            raise ValueError(f"there is no group {', '.join(tree)}: choose from {', '.join(groups)}")
        return check(TrialSettings(**groups))
    except (TypeError, ValueError, SkinGanError) as e:
        raise SkinGanError(f"{path}: {e}") from e


def _group(kind: Any, values: dict[str, Any]) -> Any:
    types = get_type_hints(kind)
    # YAML reads 1 as an integer and 2e-4 as a string.
    return kind(**{key: float(v) if types.get(key) is float else v for key, v in values.items()})


PRESETS: dict[str, TrialSettings] = {
    path.stem: load(path) for path in sorted(Path(__file__).parent.glob("*.yaml"))
}


def preset(name: str, size: int = 0) -> TrialSettings:
    """The published settings `name`, for images of `size` pixels if that is given.

    SkinGanError that lists the presets if there is none of the name, and for a size out of range.
    """
    if name not in PRESETS:
        raise SkinGanError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    found = PRESETS[name]
    return check(replace(found, model=replace(found.model, size=size))) if size else found
