"""Settings: what a user can type, what a typo says, and what decides a trial's identity."""

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from bench_samples import rebuilt, with_a_new_field
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import api_pb2, metadata

from hpc.plan.sweep_plan import run_identity, trial_specs
from hpc.settings.compose import CHOICES, Choice, Experiment, compose, flat, load, overridden, save
from hpc.settings.space import check_space, distributions, draw, searched, value_at
from skin_gan.ablation.classifiers import ClassifierSettings
from skin_gan.config import SCHEMA, EvalSettings, TrialSettings, TrialSpec, check, spec_from
from skin_gan.errors import SkinGanError
from skin_gan.identity import differing
from skin_gan.presets import PRESETS
from skin_gan.ranges import described
from skin_gan.training.board import name_columns

AEGAN = "sweep=aegan_lr"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sweep=aegan_lrr"], "aegan_lr, architecture, augmentation, dcgan_lr, discriminator_rate"),
        ([], "sweep=NAME"),
        ([AEGAN, "budget=tiny"], "demo, full, micro, short"),
        ([AEGAN, "cluster=mars"], "unknown cluster 'mars': choose one of"),
        ([AEGAN, "preset=stylegan"], "aegan_page"),
        ([AEGAN, "trial.optim.lrg=1"], "did you mean trial.optim.lr_g?"),
        ([AEGAN, "typo=1"], "unknown key typo"),
        ([AEGAN, "+seed=1"], "expected key=value"),
        ([AEGAN, "dry_run"], "expected key=value"),
        ([AEGAN, "seed=x"], "seed on the command line: expected a whole number, got 'x'"),
        ([AEGAN, "seed=-1"], "seed=-1: expected at least 0"),
        ([AEGAN, "seed=0,1,2"], "expected a whole number, got '0,1,2'"),
        ([AEGAN, "seed=1:30"], "expected a whole number, got '1:30'"),
        ([AEGAN, "trial.optim.lr_g=1:30.5"], "expected a number, got '1:30.5'"),
        ([AEGAN, "search.space.optim.lr_g={choice: [1:30]}"], "'1:30' is not a number"),
        ([AEGAN, "dry_run=maybe"], "expected true or false, got 'maybe'"),
        ([AEGAN, "--dry-run"], "did you mean dry_run=true?"),
        ([AEGAN, "--seed", "3"], "did you mean seed=VALUE?"),
        ([AEGAN, "--cluster=testbed"], "did you mean cluster=testbed?"),
        ([AEGAN, "-m", "seed=0,1"], "there is no multirun"),
        (["aegan_lr"], "did you mean sweep=aegan_lr?"),
        ([AEGAN, "sweep=dcgan_lr"], "expected one sweep, got sweep=aegan_lr and sweep=dcgan_lr"),
        (
            [AEGAN, "search.space={optim: {lr_g: {choice: [1]}, lr_g: {choice: [2]}}}"],
            "lr_g occurs twice",
        ),
        ([AEGAN, "results=bad\udcff"], "expected text in UTF-8"),
        ([AEGAN, "data=???"], "got '???', which is no value"),
        ([AEGAN, "search.trials=" + "9" * 5000], "expected a whole number, got '9999"),
        ([AEGAN, "results="], "results=: expected a path"),
        ([AEGAN, "ablate.sources.mine="], "ablate.sources.mine=: expected a path"),
        ([AEGAN, "results=/a/12:30"], "PYTHONPATH is split at colons"),
        ([AEGAN, "results=/a/50%jobs"], "patterns such as %j"),
        ([AEGAN, "results=/a\nb"], "expected a path without"),
        ([AEGAN, "operations.device=tpu"], "operations.device=tpu: expected auto, cpu or cuda"),
        ([AEGAN, "evaluate.grid=0"], "evaluate.grid=0: expected at least 1"),
        ([AEGAN, "evaluate.every_kimg=-1"], "at least 0"),
        ([AEGAN, "operations.log_kimg=.nan"], "a finite number"),
        ([AEGAN, "select.max_copies=1.5"], "select.max_copies=1.5: expected 0 to 1"),
        ([AEGAN, "search.rungs=[4,.inf]"], "rising kimg"),
        ([AEGAN, "search.space.model.size={choice: [32, 64]}"], "launch a sweep for each"),
        ([AEGAN, "search.space.model.base={uniform: [32, 64]}"], "model.base=33: expected a multiple of 4"),
        ([AEGAN, "search.space.optim.d_steps={uniform: [0.5, 4]}"], "expects whole bounds"),
        ([AEGAN, "search.space.optim.name={uniform: [0, 1]}"], "choice: [adam, sgd]"),
        ([AEGAN, "trial.model.upsampling=cubic"], "one of transposed, nearest, bilinear, pixelshuffle"),
        ([AEGAN, "trial.model.size=48"], "16, 32, 64, 128 or 256"),
        ([AEGAN, "trial.loss.real_label=0.4"], "loss.real_label=0.4"),
        ([AEGAN, "trial.optim=3"], "trial.optim on the command line: expected keys and values"),
        ([AEGAN, "search.rungs=[12,4]"], "rising kimg"),
        ([AEGAN, "search.rungs=[]"], "rising kimg"),
        ([AEGAN, "search.rungs=[0,4]"], "rising kimg above 0"),
        (
            [AEGAN, "search.sampler=grid"],
            "search.sampler on the command line: expected one of gp, listed, motpe, random, sobol, tpe",
        ),
        ([AEGAN, "select.poor_kid=.nan"], "select.poor_kid=nan: expected a finite number"),
        ([AEGAN, "ablate.folds=[0,5]"], "ablate.folds=[0, 5]: expected different folds of 0 to 4"),
        ([AEGAN, "ablate.folds=[1,1]"], "different folds of 0 to 4"),
        ([AEGAN, "ablate.classifiers.head.seeds=0"], "ablate.classifiers.head.seeds=0: expected at least 1"),
        ([AEGAN, "ablate.classifiers.head.steps=-1"], "head.steps=-1: expected at least 0"),
        ([AEGAN, "ablate.classifiers.head.ratios=[1,20]"], "expected each of 0.25 to 10"),
        ([AEGAN, "ablate.classifiers.head.filters=[blur]"], "filters=['blur']: expected each of confidence"),
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


WORDS = [
    "2024_05_01", "2024-05-01", "0012345", "007", "on", "OFF", "yes", "No", "true", "1e5", "1_000", "12.50",
    "0x1F", "0o17", "null", "NULL", "~", ".nan", "NaN", ".inf", "24h", "+5", "1,000", "run #2", "#1", "it's",
    "a [b]", "a {b}", "*x", "&x", "!x", "@x", "`x`", "a 'b' \"c\"", "=", "a=b", "- a", "?", "Läsionen",
    "皮膚", "a, b", "a\\b", "|", ">",
]  # fmt: skip
TEXTS = (
    "data",
    *(f"profile.{x}" for x in ("account", "partition", "qos", "constraint", "reservation", "python")),
)


def texts(e: Experiment) -> list[str]:
    return [e.data, *(getattr(e.profile, key.partition(".")[2]) for key in TEXTS[1:])]


@pytest.mark.parametrize("word", [*WORDS, "12:30", "24:00:00", "a: b", "50%"])
def test_a_word_that_is_text_stays_what_was_written(word):
    assert texts(compose([AEGAN, "cluster=cpu", *(f"{key}={word}" for key in TEXTS)])) == [word] * len(TEXTS)


@settings(deadline=None, max_examples=15)
@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1))
def test_any_text_stays_what_was_written(text):
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if not quoted and "${" not in text and text != "???":  # OmegaConf's own
        assert texts(compose([AEGAN, "cluster=cpu", *(f"{key}={text}" for key in TEXTS)])) == [text] * len(
            TEXTS
        )


@pytest.mark.parametrize("word", [w for w in WORDS if "\\" not in w])
def test_a_folder_and_a_source_are_what_was_written(word, tmp_path):
    e = compose([AEGAN, f"results={tmp_path}/{word}", f"ablate.sources.mine={tmp_path}/{word}"])
    assert (e.results, e.ablate.sources) == (f"{tmp_path}/{word}", {"mine": f"{tmp_path}/{word}"})


NAMES = ["001", "no", "yes", "null", "1e5", "2024_05_01", "0x1F", "12:30"]


def test_lists_and_keys_of_names_are_what_was_written(tmp_path):
    assert compose([AEGAN, f"classes=[{','.join(NAMES)}]"]).classes == NAMES
    assert compose([AEGAN, f"classes={','.join(NAMES)}"]).classes == NAMES
    setup = compose(
        [AEGAN, "cluster=cpu", "profile.setup=[on, 007, 'a: b', module load 12.10]"]
    ).profile.setup
    assert setup == ["on", "007", "a: b", "module load 12.10"]
    sources = compose([AEGAN, "ablate.sources={007: /a/1_000, on: /b}"]).ablate.sources
    assert sources == {"007": "/a/1_000", "on": "/b"}


def test_options_of_sbatch_are_text_but_for_true_false_and_null():
    words = (
        "{begin: 16:00, nice: 007, hint: on, mem-per-cpu: 1e3, exclusive: true, no-kill: false, hold: null}"
    )
    assert compose([AEGAN, "cluster=cpu", f"profile.extra={words}"]).profile.extra == {
        "begin": "16:00", "nice": "007", "hint": "on", "mem-per-cpu": "1e3", "exclusive": True,
        "no-kill": False, "hold": None,
    }  # fmt: skip


def test_quotes_around_a_whole_word_are_taken_off():
    assert compose([AEGAN, "cluster=cpu", "profile.account='a #b'"]).profile.account == "a #b"
    assert compose([AEGAN, "cluster=cpu", 'profile.account="007"']).profile.account == "007"


def test_numbers_are_those_of_yaml_1_2():
    e = compose(
        [AEGAN, "seed=010", "search.trials=1_6", "trial.optim.lr_g=1e-4", "search.rungs=[4, 1.2e1, 36]"]
    )
    assert (e.seed, e.search.trials, e.trial.optim.lr_g, e.search.rungs) == (10, 16, 1e-4, [4.0, 12.0, 36.0])
    assert [compose([AEGAN, f"ablate.balance={x}"]).ablate.balance for x in ("2", "0.5", "equalise")] == [
        2, 0.5, "equalise",
    ]  # fmt: skip


def test_files_keep_text_as_words_do(tmp_path, monkeypatch):
    monkeypatch.setitem(CHOICES, "cluster", Choice(str(tmp_path), own="clusters", inside="profile"))
    (tmp_path / "mine.yaml").write_text(
        "kind: slurm\naccount: 0012345\npartition: on\nqos: 12:30\n"
        "reservation: 2024-05-01\nconstraint: null\n"
        "python: ~/bin/a#b  # a comment\nsetup: [yes, 0x1F]\nextra: {begin: 16:00}\nminutes: 0090\nmem: 007\n"
    )
    p = compose([AEGAN, "cluster=mine"]).profile
    assert (p.account, p.partition, p.qos, p.reservation) == ("0012345", "on", "12:30", "2024-05-01")
    assert (p.constraint, p.python, p.setup) == ("null", "~/bin/a#b", ["yes", "0x1F"])
    assert (p.extra, p.minutes, p.mem) == ({"begin": "16:00"}, 90, "007")


@settings(deadline=None, max_examples=15)
@given(st.sampled_from([*WORDS, "12:30"]), st.sampled_from([*NAMES, "df"]))
def test_words_that_look_like_something_else_are_saved_and_read_again(word, name):
    e = compose([AEGAN, "cluster=cpu", f"classes=[{name}]", f"profile.account={word}", f"data={word}",
                 f"profile.extra={{comment: {name}, exclusive: true}}"])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        save(e, Path(folder) / "sweep.yaml")
        assert load(Path(folder) / "sweep.yaml") == e


def test_the_command_line_wins_over_budget_over_sweep_over_preset():
    e = compose([AEGAN, "budget=demo"])
    assert (e.trial.model.base, e.trial.loss.real_label, e.search.trials) == (16, 0.95, 2)
    e = compose([AEGAN, "budget=demo", "trial.model.base=32", "search.trials=5", "preset=aegan_keras"])
    assert (e.trial.model.base, e.search.trials, e.trial.loss.image) == (32, 5, 10.0)


def test_of_two_words_for_one_setting_the_later_counts_and_the_other_is_named():
    words = [
        AEGAN,
        "seed=1",
        "trial.optim={lr_g: 1e-3, lr_d: 1e-3}",
        "trial.optim.lr_g=1e-4",
        "seed=2",
        AEGAN,
    ]
    e = compose(words)
    assert (e.seed, e.trial.optim.lr_g, e.trial.optim.lr_d) == (2, 1e-4, 1e-3)
    assert overridden(words) == ["seed=1 is ignored: seed=2 comes later"]


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


@settings(deadline=None, max_examples=25)
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


def records(kind):
    """A dataclass and those that its fields hold, in dicts too."""
    yield kind
    for hint in get_type_hints(kind).values():
        for inner in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(inner):
                yield from records(inner)


def identities(e, classes):
    """The identity of a sweep and of its first trials, by the schemas that there are."""
    for schema in (1, SCHEMA):
        yield run_identity(e, "data", schema)
        for spec in trial_specs(e, "data", "df", schema)[:4]:
            yield rebuilt(spec, classes).id


@pytest.mark.parametrize("kind", [*records(Experiment), TrialSpec])
def test_a_new_field_with_a_default_and_another_order_leave_every_id(kind):
    classes = {kind: with_a_new_field(kind)}
    for words in (
        ["sweep=architecture", "seed=3"],
        ["sweep=dcgan_lr", "budget=full", "search.sampler=sobol"],
    ):
        e = compose(words)
        later = rebuilt(e, classes)
        assert [*identities(later, classes)] == [*identities(e, {})]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kind", [*records(TrialSettings)][1:])
def test_a_new_field_is_part_of_the_id_where_it_is_not_its_default(kind, name):
    spec = TrialSpec("df", 0, 1, 0, "data", PRESETS[name])
    later = rebuilt(spec, {kind: with_a_new_field(kind)})
    assert later.id == spec.id
    (group,) = (g for g in vars(later.settings).values() if hasattr(g, "new"))
    group.new = 0.5
    assert later.id != spec.id


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("model.base=6", "a multiple of 4, at least 4"),
        ("optim.d_steps=17", "1 to 16"),
        ("loss.r1=-0.5", "a finite number, at least 0"),
        ("loss.gp=.inf", "a finite number, at least 0"),
        ("loss.zero_outputs=1", "at least 0, below 1"),
        ("train.batch=1", "2 to 4096"),
    ],
)
def test_a_range_is_named_as_it_stands_beside_the_field(wrong, expected):
    with pytest.raises(SkinGanError) as e:
        compose([AEGAN, f"trial.{wrong}"])
    assert wrong.partition("=")[0] in str(e.value) and f"expected {expected}" in str(e.value)


def test_every_setting_of_a_trial_is_described_and_its_default_valid():
    described_ones = {d.name: d for d in described(TrialSettings())}
    assert list(described_ones) == list(searched_everything(TrialSettings()))
    assert all(d.valid and d.setting.meaning for d in described_ones.values())
    assert all(d.expected or d.kind is bool for d in described_ones.values())
    assert described_ones["model.features_size"].expected == "a multiple of 32, 0 to 512"
    assert described_ones["loss.name"].expected == "one of bce, hinge, relativistic, wgan"
    assert described_ones["train.ema_kimg"].setting.unit == "kimg"


@pytest.mark.parametrize("family", ["vae", ""])
def test_names_in_a_file_are_checked_as_those_on_a_command_line(family):
    written = dataclasses.asdict(TrialSpec("df", 3, 7, 0, "data", TrialSettings()))
    written["settings"]["model"]["family"] = family
    with pytest.raises(SkinGanError, match=f"model.family={family}: expected one of aegan, dcgan"):
        spec_from(written)


def test_each_records_the_fields_that_were_chosen():
    chosen = differing(ClassifierSettings(network="head", steps=7))
    assert chosen == {"network": "head", "steps": 7}
    assert differing(TrialSettings()) == {}


# What the identities of a schema rest on, since they hash what differs from it.
DEFAULTS = {
    2: {
        "model": dict(family="aegan", size=32, latent=16, base=64, upsampling="nearest", norm="batch",
                      d_norm="batch", discriminator="own", features="mobilenetv2", features_size=0,
                      head_channels=64, colour_head=True, batch_spread=True, growth="none", start_size=8),
        "loss": dict(name="bce", real_label=1.0, fake_label=0.0, zero_outputs=0.0,
                     r1=0.0, r2=0.0, gp=0.0, lecam=0.0, consistency=0.0, lazy=1, scale_penalties=False,
                     mode_seeking=0.0,
                     image=1.0, perceptual=0.0, latent=0.5, adversarial_image=0.005, adversarial_latent=0.1,
                     input_noise=0.0),
        "optim": dict(name="adam", lr_g=2e-4, lr_d=2e-4, beta1=0.5, beta2=0.999, d_steps=1, clip=0.0),
        "train": dict(batch=64, precision="fp32", ema_kimg=20.0, augment="none", frozen_layers=0,
                      level_kimg=8.0),
    },
}  # fmt: skip


def told_of_defaults(s: TrialSettings, schema: int) -> str:
    """What has to be done since the defaults are those of `s`; "" if nothing has."""
    if schema not in DEFAULTS:
        return f"schema {schema} is new: store its defaults here"
    now, stored = flat(dataclasses.asdict(s)), flat(DEFAULTS[schema])
    if changed := [f"{k}={now.get(k)} (was {v})" for k, v in stored.items() if now.get(k) != v]:
        return (
            f"{', '.join(changed)}: equal identities, other settings. Raise SCHEMA in skin_gan/config.py, "
            "and store the defaults of the new schema here"
        )
    if new := now.keys() - stored.keys():
        return f"add what is new to the stored defaults: {', '.join(sorted(new))}"
    return ""


def test_a_changed_default_raises_the_schema():
    told = told_of_defaults(TrialSettings(), SCHEMA)
    assert not told, told


def test_a_changed_a_removed_and_a_new_default_are_told():
    changed = TrialSettings()
    changed.optim.lr_g = 1e-3
    told = told_of_defaults(changed, SCHEMA)
    assert "optim.lr_g=0.001 (was 0.0002)" in told and "Raise SCHEMA" in told
    assert "store" in told_of_defaults(changed, SCHEMA + 1)
    kind = with_a_new_field(type(changed.train))
    told = told_of_defaults(rebuilt(TrialSettings(), {type(changed.train): kind}), SCHEMA)
    assert told.endswith("train.new")
    without = dataclasses.replace(TrialSettings(), train=EvalSettings())
    assert "train.batch=None (was 64)" in told_of_defaults(without, SCHEMA)


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


NUMBERS = {
    "optim.lr_g": (1e-6, 0.999999), "optim.beta2": (0.0, 0.9999999), "loss.real_label": (0.5000001, 1.0),
    "loss.fake_label": (0.0, 0.4999999), "train.ema_kimg": (0.0, 1e6), "optim.clip": (0.0, 1e300),
}  # fmt: skip
WHOLE = {"optim.d_steps": (1, 16), "model.latent": (1, 10**6), "train.batch": (2, 4096)}
WORDED = {"model.norm": ["batch", "layer", "group", "none"], "optim.name": ["adam", "sgd"]}


@st.composite
def searched_setting(draw_):
    """A searched setting, and a distribution in its range as people write them."""
    name = draw_(st.sampled_from([*NUMBERS, *WHOLE, *WORDED]))
    if name in WORDED:
        return name, {"choice": draw_(st.lists(st.sampled_from(WORDED[name]), min_size=1, max_size=5))}
    low, high = NUMBERS.get(name) or WHOLE[name]
    one = st.integers(low, high) if name in WHOLE else st.floats(low, high)
    if draw_(st.booleans()):
        values = draw_(st.lists(one, min_size=1, max_size=5))
        # Numbers that are whole may be written without a point, others of the list with one.
        return name, {"choice": [int(v) if v == int(v) and draw_(st.booleans()) else v for v in values]}
    bounds = draw_(st.lists(one, min_size=2, max_size=2, unique=True).map(sorted))
    return name, {"loguniform" if bounds[0] > 0 and draw_(st.booleans()) else "uniform": bounds}


@settings(deadline=None, max_examples=40)
@given(searched_setting(), st.integers(0, 99))
def test_a_space_that_is_accepted_draws_valid_values_in_range_and_has_columns(distribution, seed):
    name, leaf = distribution
    group, key = name.split(".")
    space = {group: {key: leaf}}
    base = TrialSettings()
    check_space(space, base)
    ((kind, values),) = leaf.items()
    for i in range(200):
        value = value_at(check(draw(space, base, seed, "df", i)), name)
        assert type(value) is type(value_at(base, name))
        assert value in values if kind == "choice" else values[0] <= value <= values[1]
    with tempfile.TemporaryDirectory() as folder:
        drawn = {name: distribution.domain for name, distribution in distributions(space).items()}
        name_columns(Path(folder), drawn, {"1 quality/KID x1000": ""})
        (column,) = columns_in(Path(folder))
    shown = list(column.domain_discrete.values)
    if kind != "choice":
        assert (column.domain_interval.min_value, column.domain_interval.max_value) == tuple(values)
    elif name in WORDED:
        assert [v.string_value for v in shown] == sorted(set(values))
    else:
        assert [v.number_value for v in shown] == sorted(set(map(float, values)))


def columns_in(folder: Path) -> list[api_pb2.HParamInfo]:
    (file,) = folder.glob("events.out.tfevents.*")
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.tag == metadata.EXPERIMENT_TAG:
                return list(
                    metadata.parse_experiment_plugin_data(value.metadata.plugin_data.content).hparam_infos
                )
    raise AssertionError("no columns were written")


@pytest.mark.parametrize(
    ("word", "low", "high"),
    [
        ("optim.beta2={uniform: [0.9995, 0.99999]}", 0.9995, 0.99999),
        ("optim.beta2={loguniform: [0.99991, 0.99994]}", 0.99991, 0.99994),
        ("optim.d_steps={uniform: [1, 3]}", 1, 3),
        ("model.latent={loguniform: [3, 200]}", 3, 200),
    ],
)
def test_a_range_is_kept_to_and_used_up(word, low, high):
    e = compose([AEGAN, f"search.space.{word}"])
    name = word.partition("=")[0]
    values = [value_at(draw(e.search.space, e.trial, 0, "df", i), name) for i in range(2000)]
    assert low <= min(values) and max(values) <= high
    assert min(values) < low + 0.05 * (high - low) and max(values) > high - 0.05 * (high - low)
    if name == "optim.d_steps":
        assert [values.count(n) for n in (1, 2, 3)] == pytest.approx([2000 / 3] * 3, rel=0.15)
    if name == "model.latent":  # log-uniform over [3, 201): a share of log(24 / 3) / log(201 / 3) below 24
        share = math.log(24 / 3) / math.log(201 / 3)
        assert sum(v < 24 for v in values) / 2000 == pytest.approx(share, abs=0.04)


IDS = {  # of sweeps that people have: their trials must be found again
    "aegan_lr": ["1a8b992494", "2825bd1f66", "e290f16686", "0ceb67760b"],
    "architecture": ["1a8b992494", "b47c7546cf", "56c11b1403", "7e04d2a7ac"],
    "dcgan_lr": ["d4e33db138", "5982e067bd", "0a360dba00", "6eb5c5190d"],
    "label_smoothing": ["1a8b992494", "2bc5801e94", "718d648d74", "d296d87b04"],
}


@pytest.mark.parametrize("sweep", IDS)
def test_the_trials_of_published_sweeps_keep_their_identity(sweep):
    e = compose([f"sweep={sweep}", "data=demo"])
    specs = trial_specs(e, "0123456789abcdef", "df")[:4]
    assert [dataclasses.replace(spec, schema=1).id for spec in specs] == IDS[sweep]
