"""Settings: what a user can type, what a typo says, and what decides a trial's identity."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.config import CHOICES, Experiment, compose, load, save
from hpc.space import draw, searched, value_at
from skin_gan.ablation.arms import ClassifierSettings
from skin_gan.config import SCHEMA, TrialSettings, TrialSpec, check, spec_from
from skin_gan.errors import SkinGanError
from skin_gan.identity import differing
from skin_gan.presets import PRESETS

AEGAN = "sweep=aegan_lr"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sweep=aegan_lrr"], "aegan_lr, architecture, dcgan_lr, label_smoothing"),
        ([], "sweep=NAME"),
        ([AEGAN, "budget=tiny"], "demo, full, micro, short"),
        ([AEGAN, "cluster=mars"], "unknown cluster 'mars': choose one of"),
        ([AEGAN, "preset=stylegan"], "aegan_page"),
        ([AEGAN, "trial.optim.lrg=1"], "did you mean trial.optim.lr_g?"),
        ([AEGAN, "typo=1"], "unknown key typo"),
        ([AEGAN, "+seed=1"], "expected key=value"),
        ([AEGAN, "dry_run"], "expected key=value"),
        ([AEGAN, "seed=x"], "seed: Value 'x' of type 'str' could not be converted to Integer"),
        ([AEGAN, "trial.model.upsampling=cubic"], "'transposed', 'nearest', 'bilinear', 'pixelshuffle'"),
        ([AEGAN, "trial.model.size=48"], "16, 32, 64, 128 or 256"),
        ([AEGAN, "trial.loss.real_label=0.4"], "loss.real_label=0.4"),
        ([AEGAN, "trial.optim=3"], "trial.optim on the command line: expected keys and values"),
        ([AEGAN, "search.rungs=[12,4]"], "rising kimg"),
        ([AEGAN, "search.rungs=[4,5,9]"], "constant factor"),
        ([AEGAN, "search.trials=0"], "at least 1"),
        ([AEGAN, "fold=5"], "0 to 4"),
        ([AEGAN, "classes=[df"], "as YAML"),
        ([AEGAN, "search.space.optim.momentum={choice: [0.1]}"], "there is no setting 'momentum'"),
        ([AEGAN, "search.space.optim.lr_g={loguniform: [1e-3, 1e-5]}"], "low < high"),
        ([AEGAN, "search.space.optim.lr_g={lognormal: [1e-3, 1e-5]}"], "loguniform, uniform, choice"),
        ([AEGAN, "search.space.model.norm={choice: [instance]}"], "batch, layer, group, none"),
        ([AEGAN, "search.space.optim.lr_g={loguniform: [1e-3, 7]}"], "above 0, below 1"),
    ],
)
def test_a_mistake_names_the_valid_choices(words, says):
    with pytest.raises(SkinGanError) as e:
        compose(words)
    assert says in str(e.value)
    assert "\n" not in str(e.value)


def test_the_command_line_wins_over_budget_over_sweep_over_preset():
    e = compose([AEGAN, "budget=demo"])
    assert (e.trial.model.base, e.trial.loss.real_label, e.search.trials) == (16, 0.95, 2)
    e = compose([AEGAN, "budget=demo", "trial.model.base=32", "search.trials=5", "preset=aegan_keras"])
    assert (e.trial.model.base, e.search.trials, e.trial.loss.image) == (32, 5, 10.0)


def test_setting_a_searched_setting_takes_it_out_of_the_search():
    e = compose([AEGAN, "trial.optim.lr_g=1e-3"])
    assert searched(e.search.space) == ["optim.lr_d"]
    assert all(draw(e.search.space, e.trial, 0, "df", i).optim.lr_g == 1e-3 for i in range(5))


def test_a_distribution_can_be_replaced_by_one_of_another_kind():
    e = compose([AEGAN, "search.space.optim.lr_d={choice: [1e-4]}"])
    assert draw(e.search.space, e.trial, 0, "df", 1).optim.lr_d == 1e-4


def test_classes_may_be_given_as_a_list_or_with_commas():
    assert compose([AEGAN, "classes=[df,vasc]"]).classes == compose([AEGAN, "classes=df,vasc"]).classes


def test_saved_settings_come_back_equal(tmp_path):
    e = compose([AEGAN, "budget=short", "classes=[df]", f"results={tmp_path}"])
    save(e, tmp_path / "sweep.yaml")
    assert load(tmp_path / "sweep.yaml") == e


@pytest.mark.parametrize("name", CHOICES["sweep"].names())
@pytest.mark.parametrize("budget", CHOICES["budget"].names())
def test_every_sweep_composes_with_every_budget(name, budget):
    e = compose([f"sweep={name}", f"budget={budget}"])
    assert e.about and searched(e.search.space)
    for i in range(20):
        drawn = draw(e.search.space, e.trial, 0, "df", i)
        assert check(drawn) == drawn


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 200))
def test_trial_i_follows_from_seed_class_and_i_alone(seed, i):
    e = compose(["sweep=architecture"])
    assert draw(e.search.space, e.trial, seed, "df", i) == draw(e.search.space, e.trial, seed, "df", i)


def test_classes_and_trials_draw_different_settings():
    e = compose([AEGAN])
    drawn = {
        draw(e.search.space, e.trial, 0, c, i).optim.lr_g for c in ("df", "nv", "mel") for i in range(20)
    }
    assert len(drawn) > 55, "four digits collide now and then"
    assert min(drawn) >= 5e-5 and max(drawn) <= 2e-3
    assert sum(x < 3.16e-4 for x in drawn) == pytest.approx(30, abs=15), "log-uniform: half below the middle"


def test_a_new_searched_setting_leaves_the_draws_of_the_others():
    e = compose([AEGAN])
    wider = compose([AEGAN, "search.space.optim.beta1={choice: [0.0, 0.5]}"])
    for i in range(5):
        a, b = draw(e.search.space, e.trial, 0, "df", i), draw(wider.search.space, wider.trial, 0, "df", i)
        assert a.optim.lr_g == b.optim.lr_g


def test_identity_follows_every_setting():
    spec = TrialSpec("df", 0, 1, 0, "data", TrialSettings())
    ids = {spec.id}
    for name in searched_everything(TrialSettings()):
        group, key = name.split(".")
        changed = TrialSettings()
        value = value_at(changed, name)
        setattr(getattr(changed, group), key, f"{value}x" if isinstance(value, str) else value + 1)
        ids.add(dataclasses.replace(spec, settings=changed).id)
    for other in ({"seed": 2}, {"fold": 1}, {"data": "other"}, {"label": "nv"}, {"index": 1}):
        ids.add(dataclasses.replace(spec, **other).id)
    assert len(ids) == 1 + len(list(searched_everything(TrialSettings()))) + 5


def with_a_new_field(kind):
    """`kind` with a field more, at its beginning, and the others in reverse order, with their defaults."""
    old = [
        (f.name, Any, dataclasses.field(default=f.default, default_factory=f.default_factory))
        for f in reversed(dataclasses.fields(kind))
    ]
    return dataclasses.make_dataclass(kind.__name__, [("new", float, 0.25), *old])


def rebuilt(value, classes):
    """The same values in other classes."""
    if not dataclasses.is_dataclass(value):
        return value
    kept = {f.name: rebuilt(getattr(value, f.name), classes) for f in dataclasses.fields(value)}
    return classes[type(value)](**kept)


@pytest.mark.parametrize("name", PRESETS)
def test_a_new_field_with_a_default_and_another_order_leave_every_id(name):
    groups = {f.default_factory for f in dataclasses.fields(TrialSettings)}
    classes = {kind: with_a_new_field(kind) for kind in (*groups, TrialSettings)}
    spec = TrialSpec("df", 0, 1, 0, "data", PRESETS[name])
    later = dataclasses.replace(spec, settings=rebuilt(PRESETS[name], classes))
    assert later.id == spec.id
    later.settings.train.new = 0.5
    assert later.id != spec.id


def test_each_records_the_fields_that_were_chosen():
    chosen = differing(ClassifierSettings(network="head", steps=7))
    assert chosen == {"network": "head", "steps": 7}
    assert differing(TrialSettings()) == {}


# What every identity of this schema rests on. A default that changes raises SCHEMA, here as there; a setting
# that is new is added here.
DEFAULTS = {
    "model": dict(family="aegan", size=32, latent=16, base=64, upsampling="nearest", norm="batch",
                  d_norm="batch"),
    "loss": dict(name="bce", real_label=1.0, fake_label=0.0, zero_outputs=0.0,
                 r1=0.0, r2=0.0, gp=0.0, lecam=0.0, lazy=1,
                 image=1.0, latent=0.5, adversarial_image=0.005, adversarial_latent=0.1,
                 input_noise=0.0),
    "optim": dict(name="adam", lr_g=2e-4, lr_d=2e-4, beta1=0.5, beta2=0.999, d_steps=1, clip=0.0),
    "train": dict(batch=64, precision="fp32", ema_kimg=20.0, augment="none"),
}  # fmt: skip


def test_a_changed_default_raises_the_schema():
    assert (SCHEMA, dataclasses.asdict(TrialSettings())) == (2, DEFAULTS)


# As the version with schema 1 made them: by hashing all of its settings.
FORMER_IDS = {
    "dcgan": "d8867834f0", "dcgan_wide": "1bcdeeb259", "aegan_pytorch": "b8db3046cd",
    "aegan_keras": "8ea574337b", "aegan_page": "4862bea901",
}  # fmt: skip


@pytest.mark.parametrize("name", FORMER_IDS)
def test_a_trial_of_the_schema_before_keeps_its_identity(name):
    written = dataclasses.asdict(TrialSpec("df", 3, 7, 0, "0123456789abcdef", PRESETS[name]))
    del written["schema"]
    spec = spec_from(written)
    assert spec.id == FORMER_IDS[name]
    assert spec_from(dataclasses.asdict(spec)) == spec  # as the next version finds it
    chosen = dataclasses.replace(spec.settings, loss=dataclasses.replace(spec.settings.loss, image=9.0))
    assert dataclasses.replace(spec, settings=chosen).id != spec.id


def test_a_trial_of_a_later_schema_is_refused():
    written = {**dataclasses.asdict(TrialSpec("df", 3, 7, 0, "data", TrialSettings())), "schema": 9}
    with pytest.raises(SkinGanError, match=r"schema 9.*expected 1 or 2.*search again"):
        spec_from(written)


def searched_everything(s):
    return [f"{g}.{k}" for g, tree in dataclasses.asdict(s).items() for k in tree]


def test_presets_are_in_range_and_differ():
    assert len({TrialSpec("df", 0, 0, 0, "", check(p)).id for p in PRESETS.values()}) == len(PRESETS)


def test_composing_changes_no_shared_default():
    compose([AEGAN, "budget=demo", "trial.model.base=8"])
    assert Experiment().trial == TrialSettings()
    assert compose([AEGAN]).trial.model.base == PRESETS["aegan_page"].model.base
