"""Scores of generated images. Each file is a score and part of every evaluation.

A file has SCORES, a literal that maps the name of each number to whether "lower" or "higher" is better (""
for neither, such as a floor) and to its meaning. `score(c)` takes a `Comparison` and returns these numbers;
one that is not defined for its n or images is None. In all files `fake` is float [N,d], `real` is float
[M,d], and `lesions` are the M groups of real images, since photographs of one lesion are not independent.
Importing this package imports no score.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from skin_gan.errors import SkinGanError
from skin_gan.variants import SCORES, constant, names


class Score(NamedTuple):
    """The description of a number."""

    better: str  # "lower", "higher" or ""
    meaning: str
    file: str  # the name of its file here

    @property
    def about(self) -> str:
        return f"{self.meaning}; {self.better} is better" if self.better else self.meaning


@cache
def declared() -> dict[str, Score]:
    """The numbers of all files by name. SkinGanError if two files declare the same."""
    found: dict[str, Score] = {}
    for file in names(SCORES):
        for name, (better, meaning) in constant(SCORES, file, "SCORES").items():
            if name in found:
                raise SkinGanError(f"skin_gan/{SCORES}: {found[name].file}.py and {file}.py both have {name}")
            found[name] = Score(better, meaning, file)
    return found
