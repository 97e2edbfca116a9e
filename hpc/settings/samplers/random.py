"""Independent draws (random search: Bergstra and Bengio 2012, JMLR 13:281-305)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from hpc.settings.space import Distribution


def draw(space: Mapping[str, Distribution], seed: int, label: str, index: int) -> dict[str, Any]:
    """Draw each setting from its own random stream, so that adding a setting does not change the others."""
    return {name: _value(d, random.Random(f"{seed}/{label}/{index}/{name}")) for name, d in space.items()}


def _value(d: Distribution, rng: random.Random) -> Any:
    if d.how == "choice":
        return rng.choice(d.values)
    if d.kind is int and d.how == "uniform":
        return rng.randint(*map(int, d.values))
    return d.at(rng.random())
