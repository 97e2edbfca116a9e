"""A second opinion: KID, coverage and recall by a network of other lineage than the first.

Generators chosen by one network may please that network alone (Kynkaanniemi 2023, arXiv:2203.06026). All are
None where there is no second network.
"""

from __future__ import annotations

from skin_gan.metrics.arrays import Row
from skin_gan.metrics.comparison import Comparison
from skin_gan.metrics.scores import kid, prdc

SCORES = {
    "kid2": ("lower", "KID x1000 by the second network, on a scale of its own; pairs of one lesion left out"),
    "kid2_floor": ("", "mean of the same of real images, over splits by lesion"),
    "kid2_floor_sd": ("", "its standard deviation over the splits"),
    "coverage2": ("higher", "coverage by the second network"),
    "coverage2_floor": ("", "the same of real images, at equal n"),
    "recall2": ("higher", "recall by the second network"),
    "recall2_floor": ("", "the same of real images, at equal n"),
}


def score(c: Comparison) -> Row:
    if c.second is None:
        return dict.fromkeys(SCORES)
    x, val = c.second.features, c.second.ref.val
    row = {"kid": kid.kid(x, val.features, val.lesions), **kid.floors(c.second), **prdc.score(c.second)}
    return {name: row[name.replace("2", "")] for name in SCORES}
