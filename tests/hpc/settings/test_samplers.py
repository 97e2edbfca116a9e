"""Samplers: what trial i of a class is drawn from, how evenly, and what a sweep's identity says of that."""

import numpy as np
import pytest
from scipy.stats import qmc

from hpc.plan.sweep_plan import run_identity, trial_specs
from hpc.settings.compose import compose
from hpc.settings.space import (
    SAMPLERS,
    Distribution,
    adaptive,
    check_space,
    distributions,
    draw,
    ordered,
    value_at,
)
from hpc.settings.told import MEASURED, RUNNING, Told
from skin_gan.config import SCHEMA, TrialSettings, check
from skin_gan.errors import SkinGanError
from skin_gan.variants import names, variant

NAMES = [n for n in names(SAMPLERS, "hpc") if not adaptive(n) and n != "listed"]  # which takes no ranges
ADAPTIVE = [name for name in names(SAMPLERS, "hpc") if adaptive(name)]
BASE = TrialSettings()
SPACE = {
    "optim": {"d_steps": {"uniform": [1, 7]}, "beta2": {"uniform": [0.9995, 0.99999]},
              "beta1": {"choice": [0.0, 0.5, 0]}, "lr_g": {"loguniform": [5e-5, 2e-3]},
              "name": {"choice": ["adam", "sgd"]}},
    "model": {"latent": {"loguniform": [3, 200]}},
}  # fmt: skip
SEARCHED = ("optim.d_steps", "optim.beta2", "optim.beta1", "optim.lr_g", "optim.name", "model.latent")
UNIT = {"loss": {key: {"uniform": [0, 1]} for key in ("image", "latent", "input_noise")}}


def trial(index, sampler, space=SPACE, seed=0, label="df"):
    return draw(space, BASE, seed, label, index, sampler)


def points(sampler, n, seed=0):
    """[n, 3]: the first n points of a class in a cube, coordinates in [0, 1]."""
    rows = [trial(i, sampler, UNIT, seed).loss for i in range(n)]
    return np.array([[getattr(row, key) for key in UNIT["loss"]] for row in rows])


# As drawn when there was no other sampler: sweeps that people have must be found again.
DRAWN = {
    (0, "df", 0): (3, 0.9999, 0.0, 0.0002648, "adam", 138),
    (0, "df", 1): (6, 0.9998, 0.5, 0.0004627, "adam", 188),
    (0, "nv", 1): (1, 0.9998, 0.0, 0.0008851, "sgd", 59),
    (5, "df", 1): (1, 0.9998, 0.5, 0.0001516, "adam", 188),
    (0, "df", 63): (5, 0.99995, 0.5, 0.0001627, "adam", 4),
}


@pytest.mark.parametrize("which", DRAWN)
def test_random_draws_what_it_always_has(which):
    seed, label, index = which
    for drawn in (draw(SPACE, BASE, seed, label, index), draw(SPACE, BASE, seed, label, index, "random")):
        assert tuple(value_at(drawn, name) for name in SEARCHED) == DRAWN[which]


@pytest.mark.parametrize("sampler", NAMES)
class TestEachSampler:
    def test_values_are_valid_and_of_their_distributions(self, sampler):
        check_space(SPACE, BASE)
        found = [check(trial(i, sampler)) for i in range(64)]
        for name, d in distributions(SPACE).items():
            values = [value_at(t, name) for t in found]
            assert {type(v) for v in values} == {type(value_at(BASE, name))}
            if d.how == "choice":
                assert set(values) == set(d.values)
            else:
                assert d.values[0] <= min(values) < max(values) <= d.values[1]

    def test_a_trial_follows_from_seed_class_and_index_alone(self, sampler):
        later = trial(9, sampler)
        earlier = [trial(i, sampler) for i in range(10)]
        assert earlier[9] == later
        others = [trial(9, sampler, seed=1), trial(9, sampler, label="nv"), trial(8, sampler)]
        assert all(other != later for other in others)

    def test_the_order_of_the_space_means_nothing(self, sampler):
        backwards = {group: dict(reversed(settings.items())) for group, settings in reversed(SPACE.items())}
        assert [trial(i, sampler, backwards) for i in range(8)] == [trial(i, sampler) for i in range(8)]

    def test_more_trials_keep_those_there_are(self, sampler):
        few, many = (
            trial_specs(
                compose(["sweep=aegan_lr", f"search.sampler={sampler}", f"search.trials={n}"]), "d", "df"
            )
            for n in (8, 16)
        )
        assert [spec.id for spec in many[:8]] == [spec.id for spec in few]
        assert len({spec.id for spec in many}) == 16

    def test_nothing_to_draw_leaves_the_settings_as_they_are(self, sampler):
        assert trial(3, sampler, {}) == BASE


def test_the_first_points_of_sobol_fill_space_better_than_random_ones():
    sobol, random = (
        [qmc.discrepancy(points(sampler, 8, seed)) for seed in range(20)] for sampler in ("sobol", "random")
    )
    assert max(sobol) < min(random)


def test_sobols_points_are_those_of_every_version_of_scipy():
    """As drawn by SciPy 1.13.1 with NumPy 1.26.4, and by 1.17.1 with 2.4.6."""
    assert points("sobol", 6)[[0, 1, 5]].tolist() == [
        [0.4083, 0.8483, 0.2516], [0.6732, 0.01408, 0.7006], [0.9383, 0.9624, 0.9626],
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_sobols_points_have_an_interval_each(seed):
    """A (0, 3, 1)-net in base 2 in each dimension: 8 points, one in each eighth, scrambled or not."""
    eighths = np.floor(points("sobol", 8, seed) * 8).clip(max=7)
    for dimension in eighths.T:
        assert sorted(dimension) == list(range(8))


@pytest.mark.parametrize(
    ("d", "u", "value"),
    [
        (Distribution("choice", ["a", "b", "b"], str), 0.34, "b"),
        (Distribution("uniform", [2.0, 4.0], float), 0.25, 2.5),
        (Distribution("loguniform", [1e-5, 1e-3], float), 0.5, 1e-4),
        (Distribution("uniform", [1, 4], int), 0.999, 4),
        (Distribution("uniform", [1, 4], int), 0.25, 2),
        (Distribution("loguniform", [1, 7], int), 0.34, 2),  # log 2 / log 8 is a third
        (Distribution("loguniform", [1, 7], int), 0.33, 1),
    ],
)
def test_a_quantile_is_that_of_the_distribution(d, u, value):
    assert d.at(u) == pytest.approx(value) if not isinstance(value, str) else d.at(u) == value


# As it was when there was no other sampler, for data with the fingerprint "abc".
IDENTITIES = {"aegan_lr": "ddd4dade", "architecture": "2b3de390", "dcgan_lr": "707fc0f9"}


@pytest.mark.parametrize("sweep", IDENTITIES)
def test_a_sweeps_identity_names_the_sampler_unless_it_is_random(sweep):
    e, random, sobol = (
        compose([f"sweep={sweep}", "data=demo", *words])
        for words in ([], ["search.sampler=random"], ["search.sampler=sobol"])
    )
    assert run_identity(e, "abc", SCHEMA) == run_identity(random, "abc", SCHEMA) == IDENTITIES[sweep]
    assert run_identity(sobol, "abc", SCHEMA) != IDENTITIES[sweep]
    assert trial_specs(sobol, "abc", "df")[0] == trial_specs(e, "abc", "df")[0], "the baseline is not drawn"
    drawn = {spec.id for spec in trial_specs(sobol, "abc", "df")[1:]}
    assert drawn.isdisjoint(spec.id for spec in trial_specs(e, "abc", "df"))


TABLE = {"model": {"colour_head": {"choice": [True, False, True]}},
         "loss": {"name": {"choice": ["bce", "wgan", "hinge"]}, "gp": {"choice": [0, 10, 0]}}}  # fmt: skip


def test_listed_trials_are_the_rows_of_the_space():
    rows = [
        trial(i, "listed", TABLE, seed, label)
        for i, seed, label in ((1, 0, "df"), (1, 5, "nv"), (2, 0, "df"))
    ]
    assert rows[0] == rows[1]
    assert [(row.loss.name, row.loss.gp, row.model.colour_head) for row in rows[1:]] == [
        ("wgan", 10, False), ("hinge", 0, True),
    ]  # fmt: skip


def test_a_listed_sweep_has_as_many_trials_as_rows():
    words = ["sweep=losses", "data=demo", "budget=short"]
    assert compose(words).search.trials == 4
    assert compose([*words, "search.trials=2"]).search.trials == 2


@pytest.mark.parametrize("leaf", ["{choice: [0.1, 0.2]}", "{uniform: [0, 0.5]}"])
def test_a_list_with_gaps_is_refused(leaf):
    with pytest.raises(SkinGanError, match=r"loss.zero_outputs (has 2|is a range)"):
        compose(["sweep=losses", "data=demo", f"search.space.loss.zero_outputs={leaf}"])


# Adaptive samplers; what they do in a search is in tests/hpc/search/test_proposals.py


@pytest.mark.parametrize("sampler", [pytest.param("gp", marks=pytest.mark.slow), "motpe", "tpe"])
def test_what_is_proposed_is_valid_whatever_the_kind_of_setting(sampler):
    pytest.importorskip("optuna")
    space, propose = ordered(SPACE), variant(SAMPLERS, sampler, "hpc").propose
    drawn = [{name: value_at(trial(i, "sobol"), name) for name in space} for i in range(6)]
    told = [Told(i, v, MEASURED, 4.0, 50.0 + i, 0.9, {"coverage": i - 3.5}) for i, v in enumerate(drawn)]
    told[2] = Told(2, drawn[2], MEASURED, None, None, 0.0, {"coverage": 0.5})  # diverged
    told[5] = Told(5, drawn[5], RUNNING)
    for index in range(6, 9 if sampler == "gp" else 16):
        values = propose(space, 0, "df", index, told)
        assert list(values) == list(space)
        for name, d in space.items():
            assert d.holds(values[name]) and type(values[name]) is type(value_at(BASE, name))
            assert d.rounded(values[name]) == values[name]
        told.append(Told(index, values, RUNNING))


@pytest.mark.parametrize("sampler", ADAPTIVE)
def test_an_adaptive_sampler_leaves_the_first_trials_to_sobol(sampler):
    pytest.importorskip("optuna")
    words = ["sweep=aegan_lr", "search.trials=16", "search.startup=5"]
    specs = trial_specs(compose([*words, f"search.sampler={sampler}"]), "d", "df")
    sobol = trial_specs(compose([*words, "search.sampler=sobol"]), "d", "df")
    assert [spec.id for spec in specs] == [spec.id for spec in sobol[:5]]
    values = {"optim.lr_g": 1e-4, "optim.lr_d": 2e-4}
    later = trial_specs(
        compose([*words, f"search.sampler={sampler}"]), "d", "df", proposed={5: values, 1: values}
    )
    assert len(later) == 6 and later[0] == specs[0] and later[2:5] == specs[2:5]
    assert all(value_at(later[i].settings, name) == v for i in (1, 5) for name, v in values.items())


def test_a_package_that_is_missing_or_old_is_named_with_what_to_do(monkeypatch):
    from hpc.settings import compose as composing

    words = ["sweep=aegan_lr", "search.trials=16", "search.sampler=gp"]
    expected = r"sampler=gp needs optuna, .* install 'optuna>=5'`, or choose one of listed, random, sobol"
    with monkeypatch.context() as m:
        m.setattr(composing, "find_spec", lambda name: None if name == "optuna" else name)
        with pytest.raises(SkinGanError, match=expected):
            compose(words)
        compose([*words[:2], "search.sampler=sobol"])
    monkeypatch.setattr(composing, "find_spec", lambda name: name)
    monkeypatch.setattr(composing.metadata, "version", lambda name: "4.9.1")
    with pytest.raises(SkinGanError, match=expected):
        compose(words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["search.sampler=tpe", "search.trials=8"],
            "search.startup=8 of search.trials=8: tpe proposes nothing",
        ),
        (["search.startup=1"], "search.startup=1: expected at least 2"),
        (["search.round=0"], "search.round=0: expected at least 1"),
        (["search.min_coverage=0"], "search.min_coverage=0.0: expected .*above 0, at most 1"),
        (["search.sampler=cmaes"], "expected one of gp, listed, motpe, random, sobol, tpe"),
    ],
)
def test_a_samplers_settings_out_of_range_are_refused(words, says):
    pytest.importorskip("optuna")
    with pytest.raises(SkinGanError, match=says):
        compose(["sweep=aegan_lr", *words])
