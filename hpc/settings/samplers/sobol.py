"""A scrambled Sobol sequence (Sobol 1967, doi:10.1016/0041-5553(67)90144-9): trials fill the space evenly.

SciPy scrambles by Matousek's (1998, doi:10.1006/jcom.1998.0487) linear version of Owen's method (1995).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpc.settings.space import Distribution
from skin_gan.identity import content_hash


def draw(space: Mapping[str, Distribution], seed: int, label: str, index: int) -> dict[str, Any]:
    """The values at point `index` of the sequence of (seed, class), which has one dimension per setting.

    Adding or removing a setting changes the others' values too.
    """
    from scipy.stats import qmc  # seconds

    if not space:
        return {}
    rng = np.random.default_rng(int(content_hash([seed, label], 16), 16))
    sequence = qmc.Sobol(len(space), seed=rng)
    if index:  # SciPy's fast_forward rejects 0
        sequence.fast_forward(index)
    (point,) = sequence.random(1)
    return {name: d.at(u) for (name, d), u in zip(space.items(), point, strict=True)}
