"""New trainings on other lesions: in simulated searches of known truth, what is said of them is true as often
as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skin_gan.errors import SkinGanError
from skin_gan.metrics.confirmation import Trainings, best, decide, difference, one_setting
from skin_gan.metrics.scores.kid import kid, kid_by_lesion

SEARCHES, TRIALS, TOP, SEEDS = 400, 8, 3, 3
OF_LESIONS, OF_SEEDS, OF_BOTH = 15.0, 6.0, 8.0  # standard deviations of KID x1000
ERROR = 3 * math.sqrt(0.05 * 0.95 / SEARCHES)  # three standard errors of a share of 5%


class Class:
    """A class whose settings have known KIDs, and its lesions in two halves."""

    def __init__(self, true: list[float], rng: np.random.Generator, lesions: int = 12) -> None:
        self.true, self.rng = np.array(true), rng
        counts = rng.integers(1, 5, (2, lesions))
        self.shares = counts / counts.sum(1, keepdims=True)
        lesion = rng.gamma(1.0, 40.0, (2, 1, lesions)) - 40.0  # as hard for all settings
        self.effects = lesion + rng.normal(0, OF_LESIONS, (2, len(true), lesions))  # and for one of them

    def trainings(self, setting: int, half: int, seeds: int) -> Trainings:
        """New trainings of a setting, measured on one half."""
        lesions = self.effects.shape[2]
        own = self.rng.normal(0, OF_SEEDS, (seeds, 1)) + self.rng.normal(0, OF_BOTH, (seeds, lesions))
        return Trainings(self.true[setting] + self.effects[half, setting] + own, self.shares[half])

    def searched(self) -> np.ndarray:
        """The KID of each trial of a search."""
        return np.array([self.trainings(i, 0, 1).mean for i in range(len(self.true))])


def searched_and_confirmed(true: list[float], rng: np.random.Generator):
    """A search's winner with its KID, and the new trainings of its best settings and of the published one."""
    of_class = Class(true, rng)
    found = of_class.searched()
    order = [*dict.fromkeys([0, *np.argsort(found).tolist()])][: TOP + 1]
    winner = int(np.argmin(found))
    return winner, found[winner], {i: of_class.trainings(i, 1, SEEDS) for i in order}


def test_gains_are_claimed_falsely_as_rarely_as_stated_and_intervals_hold_for_what_was_picked():
    rng = np.random.default_rng(0)
    claims = missed = picked = alone = 0
    for _ in range(SEARCHES):
        _, _, new = searched_and_confirmed([100.0] * TRIALS, rng)
        others = [i for i in new if i != 0]
        found = {i: difference(new[i], new[0], len(others)) for i in others}
        lowest = min(others, key=lambda i: new[i].mean)
        claims += found[lowest].better
        missed += any(d.better or d.worse for d in found.values())
        picked += found[lowest].better or found[lowest].worse
        one = difference(new[others[0]], new[0])
        alone += one.low <= 0 <= one.high
    assert claims / SEARCHES <= 0.05 + ERROR  # of a gain, where none is
    assert missed / SEARCHES <= 0.05 + ERROR and picked / SEARCHES <= 0.05 + ERROR
    assert alone / SEARCHES == pytest.approx(0.95, abs=ERROR)  # neither too narrow nor too wide


def test_a_gain_is_found_where_there_is_one_and_its_interval_holds_it():
    rng, claims, held = np.random.default_rng(1), 0, 0
    for _ in range(SEARCHES):
        _, _, new = searched_and_confirmed([100.0, 50.0, *[100.0] * 6], rng)
        d = difference(new[1], new[0], len(new) - 1)
        claims += d.better
        held += d.low <= -50.0 <= d.high
    assert claims / SEARCHES > 0.9 and held / SEARCHES >= 0.95 - ERROR


def test_the_winners_curse_is_measured_without_bias_and_is_as_large_as_the_minimum_of_eight():
    rng, curses, errors = np.random.default_rng(2), [], []
    for _ in range(SEARCHES):
        winner, minimum, new = searched_and_confirmed([100.0] * TRIALS, rng)
        if winner in new:
            curses.append(minimum - new[winner].mean)
            errors.append(new[winner].mean - 100.0)
    assert len(curses) == SEARCHES
    assert abs(np.mean(errors)) < 3 * np.std(errors) / math.sqrt(SEARCHES)
    # Lesions' common effect shifts a whole search; of what differs between trials the minimum is 1.42 sd off.
    sizes = (np.arange(1, 5) ** 2).mean() / 2.5**2 / 12  # sum of squared shares, on average
    noise = math.hypot(OF_SEEDS, math.hypot(OF_LESIONS, OF_BOTH) * math.sqrt(sizes))
    assert np.mean(curses) == pytest.approx(-1.42 * noise, abs=3 * np.std(curses) / math.sqrt(SEARCHES))


def test_classes_deviate_from_the_setting_for_all_only_where_that_is_shown():
    rng, classes, deviate = np.random.default_rng(3), 3, {False: 0, True: 0}
    searches = SEARCHES // 4
    for own_is_better in deviate:
        for _ in range(searches):
            true = [[100.0, 100.0, 100.0] for _ in range(classes)]
            if own_is_better:
                true[0] = [100.0, 100.0, 40.0]  # setting 2 suits the first class, and no other
                for of_other in true[1:]:
                    of_other[2] = 140.0
            of_classes = [Class(of_class, rng) for of_class in true]
            new = [[c.trainings(i, 1, SEEDS) for i in range(3)] for c in of_classes]
            means = {f"{c}": {f"{i}": x.mean for i, x in enumerate(of)} for c, of in enumerate(new)}
            one, faults = next(iter(one_setting(means))), dict.fromkeys("012", 0)
            own = best(means["0"], faults)
            over = {f"{i}": difference(x, new[0][int(one)], 2) for i, x in enumerate(new[0]) if f"{i}" != one}
            deviate[own_is_better] += decide(own, one, faults, over) != one
    assert deviate[False] / searches <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / searches)
    assert deviate[True] / searches > 0.9


def test_one_setting_goes_by_ranks_so_that_a_class_of_large_numbers_counts_no_more_than_others():
    means = {
        "df": {"a": 300.0, "b": 100.0, "own": 1.0},
        "nv": {"b": 9.0, "a": 8.0},
        "mel": {"a": 5.0, "b": 6.0},
    }
    assert one_setting(means) == {"a": pytest.approx(4 / 3), "b": pytest.approx(5 / 3)}
    diverged = {**means, "nv": {"a": math.inf, "b": 9.0}}
    assert next(iter(one_setting(diverged))) == "b"
    assert decide("b", "a", {"a": 1, "b": 0}, {}) == "b"  # the generator of the other would be rejected
    assert decide("b", "a", {"a": 0, "b": 0}, {}) == "a"


def test_kid_by_lesion_adds_up_to_kid():
    arrays = np.random.default_rng(4)
    fake, real = arrays.normal(size=(20, 8)), arrays.normal(0.3, 1.0, (13, 8))
    lesions = np.array(["c", "a", "a", "b", "d", "d", "d", "e", "f", "a", "b", "g", "g"])
    values, shares = kid_by_lesion(fake, real, lesions)
    assert values @ shares == pytest.approx(kid(fake, real, lesions)) and shares.tolist() == pytest.approx(
        [3 / 13, 2 / 13, 1 / 13, 3 / 13, 1 / 13, 1 / 13, 2 / 13]
    )
    # The difference of two generators on one lesion alone is that of their KIDs there.
    other = arrays.normal(size=(20, 8))
    rows = np.flatnonzero(lesions == "d")
    alone = [kid(x, real[rows], np.array(["1", "2", "3"])) for x in (fake, other)]
    at = [kid_by_lesion(x, real, lesions)[0][3] for x in (fake, other)]
    assert at[0] - at[1] == pytest.approx(alone[0] - alone[1])


def test_what_has_no_interval_is_refused():
    x = Trainings(np.zeros((3, 4)), np.full(4, 0.25))
    with pytest.raises(SkinGanError, match="different lesions"):
        difference(x, Trainings(np.zeros((3, 4)), np.array([0.1, 0.2, 0.3, 0.4])))
    with pytest.raises(SkinGanError, match="1 seeds: expected at least 2"):
        difference(x, Trainings(np.zeros((1, 4)), x.weights))
