"""What is said of each setting is what is checked, and what the reference page says."""

import dataclasses
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest
import yaml

from hpc.cli.launch import launch
from hpc.cli.settings_help import page, settings
from hpc.settings.compose import ROOT, Experiment, compose
from skin_gan.errors import SkinGanError

EVERY = {d.name: d for d in settings()}
BASE = ("sweep=aegan_lr", "cluster=cpu")


def records(kind=Experiment, name=""):
    """Every dataclass that a launch's settings consist of, by the dotted name of its group."""
    yield name, kind
    for f in dataclasses.fields(kind):
        hint = get_type_hints(kind)[f.name]
        for inner, key in [(hint, f.name), *((of_dict, f"{f.name}.NAME") for of_dict in get_args(hint))]:
            if dataclasses.is_dataclass(inner):
                yield from records(inner, f"{name}.{key}".lstrip("."))


def test_the_reference_page_is_that_of_these_settings():
    written = (ROOT / "docs" / "settings.md").read_text()
    assert written == page() + "\n", "run `python hpc/launch.py --help all > docs/settings.md`"


def test_every_field_of_every_record_is_described():
    groups = dict(records())
    fields = {
        f"{name}.{f.name}".lstrip(".") for name, kind in groups.items() for f in dataclasses.fields(kind)
    }
    inner = {name for name in groups if "NAME" not in name}
    assert fields - inner == set(EVERY)
    for name, d in EVERY.items():
        assert d.setting.meaning and d.valid, name
        assert d.group.__doc__ and not d.group.__doc__.startswith(f"{d.group.__name__}("), d.group


def test_help_on_a_group_has_each_of_its_settings(capsys):
    for group in ("search", "trial", "trial.optim", "profile", "ablate.classifiers.head"):
        assert launch(["--help", group]) == 0
        said = [line.split("=")[0].strip() for line in capsys.readouterr().out.splitlines()[1:]]
        beginning = group.replace("head", "NAME") + "."
        assert said == [name for name in EVERY if name.startswith(beginning)]


@pytest.mark.parametrize("name", [name for name in EVERY if name.startswith("trial.")])
def test_help_on_a_setting_names_its_default_and_the_sweeps_that_search_it(name, capsys):
    assert launch(["--help", name]) == 0
    said = capsys.readouterr().out
    _, group, key = name.split(".")
    default = getattr(getattr(Experiment().trial, group), key)
    rows = dict(line.strip().split(maxsplit=1) for line in said.replace(" by", "").splitlines()[1:])
    shown = yaml.safe_load(rows["default"]) if isinstance(default, bool) else rows["default"]
    assert type(default)(shown) == default
    trees = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "sweeps").glob("*.yaml")}
    searching = {stem for stem, tree in trees.items() if key in tree["search"]["space"].get(group, {})}
    assert {stem for stem in trees if f"sweep={stem} " in rows.get("searched", "")} == searching


def beyond(d):
    """Numbers just out of the setting's range, by the bounds that are said of it."""
    s = d.setting
    step = 1 if d.kind is int else 1e-6
    yield from (s.least - step,) if s.least is not None else ()
    yield from (s.most + step,) if s.most is not None else ()
    yield from (bound for bound in (s.above, s.below) if bound is not None)
    yield from (max(s.among) + 1,) if s.among and d.kind is int else ()
    yield from (s.multiple + 1,) if s.multiple else ()
    yield from (".inf", ".nan") if d.kind is float else ()


@pytest.mark.parametrize("name", [name for name, d in EVERY.items() if d.kind in (int, float)])
def test_a_number_out_of_the_range_that_is_said_is_refused(name):
    d, key = EVERY[name], name.replace("NAME", "head")
    values = list(beyond(d))
    assert values
    for value in values:
        with pytest.raises(SkinGanError, match="settings out of range") as e:
            compose([*BASE, f"{key}={value}"])
        assert f"{key}=" in str(e.value) and f"expected {d.expected}" in str(e.value)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr_g", "trial.optim.lr_g"),
        ("optim", "trial.optim"),
        ("serch.trials", "search.trials"),
        ("search.trails", "search.trials"),
        ("profile.node", "profile.nodes"),
        ("seeds", "ablate.classifiers.NAME.seeds"),
        ("xyzzy", "choose one of sweep, about, preset"),
        ("", "choose one of sweep"),
    ],
)
def test_an_unknown_key_is_one_error_with_those_near_it(key, meant):
    with pytest.raises(SkinGanError) as e:
        launch(["--help", key])
    assert meant in str(e.value) and "\n" not in str(e.value)


def test_a_key_of_the_users_own_is_explained_by_the_setting_it_is_in(capsys):
    for key, setting in {
        "ablate.sources.mine": "ablate.sources",
        "profile.extra.mail-type": "profile.extra",
        "search.space.optim.lr_g": "search.space",
        "ablate.classifiers.head.seeds=3": "ablate.classifiers.NAME.seeds",
    }.items():
        launch(["--help", key])
        assert capsys.readouterr().out.startswith(f"{setting}: {EVERY[setting].setting.meaning}")


def test_the_script_says_so_on_one_line_and_plain_help_still_teaches():
    def run(*words):
        command = [sys.executable, str(ROOT / "hpc" / "launch.py"), *words]
        return subprocess.run(command, capture_output=True, text=True)

    done = run("--help", "lr_g")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: there is no setting 'lr_g'") and done.stderr.count("\n") == 1
    done = run("sweep=aegan_lr", "--help")
    assert done.returncode == 0 and "examples" in done.stdout and "--help KEY" in done.stdout
