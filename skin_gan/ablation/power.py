"""How large a gain an endpoint can find, from the numbers of its test lesions alone. Pure.

The gain in balanced accuracy is the mean over K classes of the mean over a class's n_k lesions of a
difference that is -1, 0 or 1. It is not 0 for a share d of lesions, the discordance of the two arms. So, with
a true gain that is small beside d,

    variance = sum over k of d / (K^2 n_k),     detectable gain = (z(1 - alpha/2) + z(power)) sqrt(variance)

One lesion of class k moves balanced accuracy by 1 / (K n_k). The half-width of an arm's own interval has the
same form with r (1 - r) in place of d, for a recall r. Variation between seeds comes on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

ALPHA, POWER = 0.05, 0.8
NORMAL = NormalDist()  # the standard library's: scipy.stats would slow the start of every command
DISCORDANCE = 0.1  # assumed: one lesion in ten is right in one arm only
RECALL = 0.5  # assumed, of every class


@dataclass(frozen=True)
class Power:
    """What an endpoint can resolve; all shares 0..1 of balanced accuracy."""

    lesions: Mapping[str, float]  # in test, by class
    detectable: float  # true gain that is found with probability `POWER` at level `ALPHA`
    half_width: float  # of the 95% interval of one arm's own value
    smallest: str  # the class with the fewest lesions
    one_lesion: float  # by how much one lesion of it moves the measure

    @property
    def brief(self) -> str:
        """What can be found, in a line."""
        one = f"one {self.smallest} lesion is {100 * self.one_lesion:.1f}"
        return f"finds gains of {100 * self.detectable:.1f} points ({POWER:.0%} at {ALPHA:.0%}); {one}"

    @property
    def sentence(self) -> str:
        """What can be found, and on what assumption."""
        n = self.lesions[self.smallest]
        return (
            f"a gain of {100 * self.detectable:.1f} points of balanced accuracy is found with {POWER:.0%} "
            f"probability at {ALPHA:.0%}, if {DISCORDANCE:.0%} of lesions are right in one arm only; one of "
            f"{n:.0f} {self.smallest} lesions is {100 * self.one_lesion:.1f} points"
        )


def power_of(lesions: Mapping[str, float], alpha: float = ALPHA, chance: float = POWER) -> Power:
    """The power of a comparison on so many test lesions of each class; classes without any do not count."""
    known = {label: n for label, n in lesions.items() if n > 0}
    k = len(known)
    inverse = sum(1 / n for n in known.values()) / k**2
    z = NORMAL.inv_cdf(1 - alpha / 2) + NORMAL.inv_cdf(chance)
    smallest = min(known, key=lambda label: known[label])
    return Power(
        dict(known),
        detectable=float(z * sqrt(DISCORDANCE * inverse)),
        half_width=float(NORMAL.inv_cdf(1 - alpha / 2) * sqrt(RECALL * (1 - RECALL) * inverse)),
        smallest=smallest,
        one_lesion=1 / (k * known[smallest]),
    )
