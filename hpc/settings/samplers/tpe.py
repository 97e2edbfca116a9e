"""Tree-structured Parzen estimators (Bergstra 2011, NeurIPS) over all settings together (Falkner 2018, BOHB).

Trials are ranked by KID after equal training, those that violate a constraint below all others; a setting is
proposed where the best are denser than the rest, among which running trials count.
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
    """The values of trial `index`. Optuna's `group` is for spaces that differ among trials, so not used."""
    from optuna.samplers import TPESampler

    random = stream(seed, label, index)
    return ask(
        TPESampler(multivariate=True, constant_liar=True, n_startup_trials=1, seed=random), space, told
    )
