"""Scores of generated images: each file is one, found by its name, and part of every evaluation.

A file has SCORES, a literal: the name of each number, whether "lower" or "higher" is better ("" for one of
which neither is, such as a floor), and its meaning. Its `score(c)` takes a `Comparison` and returns these
numbers, None where its n or its images do not define one. Within a file `fake` is float [N,d] and
`real` float [M,d]; `lesions` are the M groups of the real images: photographs of one lesion are not
independent. Importing this imports no score.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from skin_gan.errors import SkinGanError
from skin_gan.variants import SCORES, constant, names


class Score(NamedTuple):
    """What is known of a number without computing it."""

    better: str  # "lower", "higher" or ""
    meaning: str
    file: str  # the name of its file here

    @property
    def about(self) -> str:
        return f"{self.meaning}; {self.better} is better" if self.better else self.meaning


@cache
def declared() -> dict[str, Score]:
    """All numbers of all files, by name. SkinGanError for one that two files declare."""
    found: dict[str, Score] = {}
    for file in names(SCORES):
        for name, (better, meaning) in constant(SCORES, file, "SCORES").items():
            if name in found:
                raise SkinGanError(f"skin_gan/{SCORES}: {found[name].file}.py and {file}.py both have {name}")
            found[name] = Score(better, meaning, file)
    return found
