"""Several sweeps in one command: every combination of the values that are listed. No torch."""

from __future__ import annotations

import itertools

from skin_gan.errors import SkinGanError

LISTED = ("sweep", "preset", "seed", "fold")  # settings of one value that may be given a list


def combinations(words: list[str]) -> list[list[str]]:
    """The command line of each sweep: with `seed=[0,1]` one with seed=0 and one with seed=1.

    Later lists change first. One command line if no word lists values. A word that a later one replaces lists
    none. SkinGanError for a list without values or with a value twice.
    """
    return [list(chosen) for chosen in itertools.product(*options(words))]


def varied(words: list[str]) -> list[int]:
    """Places of the words that list values."""
    return [i for i, listed in enumerate(options(words)) if len(listed) > 1]


def options(words: list[str]) -> list[list[str]]:
    """For each word those that it stands for."""
    last = {word.partition("=")[0]: i for i, word in enumerate(words)}
    return [_values(w) if last[w.partition("=")[0]] == i else [w] for i, w in enumerate(words)]


def _values(word: str) -> list[str]:
    key, _, value = word.partition("=")
    if key not in LISTED or not (value.startswith("[") and value.endswith("]")):
        return [word]
    values = [one.strip() for one in value[1:-1].split(",")]
    if "" in values or len(set(values)) < len(values):
        raise SkinGanError(f"{word}: expected different values, a sweep for each, like {key}=[a,b]")
    return [f"{key}={one}" for one in values]
