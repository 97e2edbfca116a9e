"""Gaussian processes of KID and of each constraint (Gardner 2014), by expected improvement (Ament 2023).

It learns from measured trials alone: pruned ones have no KID after equal training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc.settings.space import Distribution
from hpc.settings.told import Told, ask, stream

NEEDS = ("optuna", "scipy", "torch")


def propose(
    space: Mapping[str, Distribution], seed: int, label: str, index: int, told: Sequence[Told]
) -> dict[str, Any]:
    """The values of trial `index`."""
    from optuna.samplers import GPSampler

    return ask(GPSampler(n_startup_trials=1, seed=stream(seed, label, index)), space, told)
