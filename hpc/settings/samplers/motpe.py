"""`tpe` for two goals, a low KID and a high coverage (Ozaki 2022, doi:10.1613/jair.1.13188).

Its best trials are those that no other beats in both. Pruned ones it is not told, since they have no rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc.settings.space import Distribution
from hpc.settings.told import Told, ask, stream

NEEDS = ("optuna",)


def propose(
    space: Mapping[str, Distribution], seed: int, label: str, index: int, told: Sequence[Told]
) -> dict[str, Any]:
    """The values of trial `index`."""
    from optuna.samplers import TPESampler

    random = stream(seed, label, index)
    sampler = TPESampler(multivariate=True, constant_liar=True, n_startup_trials=1, seed=random)
    return ask(sampler, space, told, coverage=True)
