"""The house's rules: imports point one way, the edges stay at the edge, starting up is quick."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from places import ROOT

from tests import house

MODULES = sorted([*ROOT.glob("skin_gan/**/*.py"), *ROOT.glob("hpc/**/*.py")])


def imports(path: Path) -> set[str]:
    """Dotted names that the file imports, at the top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_of_the_edge_stay_there(path):
    allowed = {"submitit": "hpc/cluster/executor.py", "ray": "hpc/search/ray_tune.py"}
    for package, home in allowed.items():
        if str(path.relative_to(ROOT)) != home:
            assert package not in packages(path), f"only {home} may import {package}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_science_knows_nothing_of_the_cluster(path):
    if path.is_relative_to(ROOT / "skin_gan"):
        assert not packages(path) & {"hpc", "omegaconf", "submitit", "ray"}


def test_no_test_imports_another_test():
    """What tests share is in tests/support or in a conftest."""
    for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("tests/*.py")]:
        parts = {part for name in imports(path) for part in name.split(".")}
        assert not {p for p in parts if p.startswith("test_") or p == "conftest"}, path


# What hpc and skin_gan use that is private in other packages. pyproject.toml has an upper bound for each.
PRIVATE = {
    "hpc/cluster/executor.py": {
        "submitit.slurm.slurm._make_sbatch_string",  # the one way to a script where Slurm is not installed
        "submitit.core._submit",  # what Submitit's own scripts run
    },
    "hpc/search/ray_tune.py": {"ray.init(_temp_dir)", "ray.init(_node_ip_address)"},
    "skin_gan/training/devices.py": {"accelerate.state.AcceleratorState._reset_state"},
}


def private_names(source: str) -> Iterator[str]:
    """Private names of other packages in a source: imported, attributes, in `-m` of a command, keywords.

    Private keywords are those of ray.init. Names of this project and of Python are left out.
    """
    tree = ast.parse(source)
    origin = {}  # the dotted name that each imported name stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            origin |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            origin |= {a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0]
                       for a in node.names}  # fmt: skip
    found = {*origin.values()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            root, *rest = ast.unparse(node).split(".")
            found.add(".".join([origin.get(root, root), *rest]))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"-m ([\w.]+)", node.value))
        elif isinstance(node, ast.keyword) and (node.arg or "").startswith("_"):
            found.add(f"ray.init({node.arg})")
    own = {"hpc", "skin_gan", "self", "cls", *sys.stdlib_module_names}
    for name in found:
        if name.split(".")[0] not in own and re.search(r"[.(]_(?!_)\w", name):
            yield name


def test_private_names_of_other_packages_are_few_and_their_versions_bounded():
    used = {str(p.relative_to(ROOT)): {*private_names(p.read_text())} for p in MODULES}
    assert {path: names for path, names in used.items() if names} == PRIVATE
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounded = {r.name for r in map(Requirement, listed) if any(s.operator == "<" for s in r.specifier)}
    assert bounded == {name.split(".")[0] for names in PRIVATE.values() for name in names}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from torch._dynamo import reset", {"torch._dynamo.reset"}),
        ("import torch as t\nt._C._cuda_init()", {"torch._C", "torch._C._cuda_init"}),
        ("def f(model):\n    return model._weights", {"model._weights"}),
        ("import os\nos._exit(1)\nself._own = cls.__name__", set()),
    ],
)
def test_a_private_name_is_found_however_it_is_reached(source, found):
    assert set(private_names(source)) == found


def test_no_import_leads_upwards_and_there_is_no_circle():
    assert list(house.faults(house.graph())) == []


def test_an_import_upwards_a_circle_and_a_room_without_a_floor_are_faults():
    upwards = {"hpc.plan.a": {"hpc.cli.b"}, "hpc.cli.b": set()}
    assert list(house.faults(upwards)) == ["hpc.plan.a imports hpc.cli.b, which is not on a floor below it"]
    beside = {"hpc.search.a": {"hpc.report.b"}, "hpc.report.b": set()}
    assert len(list(house.faults(beside))) == 1
    circle = {"hpc.plan.a": {"hpc.plan.b"}, "hpc.plan.b": {"hpc.plan.a"}}
    assert [fault.partition(":")[0] for fault in house.faults(circle)] == ["a circle"]
    assert list(house.faults({"hpc.attic.a": set()})) == ["hpc.attic has no floor: give it one in FLOORS"]


def test_a_few_scripts_stand_directly_in_hpc():
    assert len(list((ROOT / "hpc").glob("*.py"))) <= 6


def test_no_module_hides_one_of_the_standard_library():
    assert not {p.stem for p in (ROOT / "hpc").glob("*.py")} & set(sys.stdlib_module_names)


# Rooms that a launch, its dry run and status go through: they answer at once.
QUICK = (
    "hpc.settings",
    "hpc.plan",
    "hpc.state",
    "hpc.slurm",
    "hpc.jobs",
    "hpc.cluster",
    "hpc.cli",
    "skin_gan.config",
    "skin_gan.folders",
)


@pytest.mark.parametrize("room", QUICK)
def test_planning_and_status_start_without_what_is_slow(room):
    names = [name for name in house.modules() if house.room(name) == room]
    assert names
    slow = {"torch", "ray", "pandas", "scipy"} | (set() if room == "hpc.cluster" else {"submitit"})
    code = f"import sys, {', '.join(names)}; print({slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("script", ["launch", "status", "aggregate", "steer"])
def test_scripts_work_from_any_folder_and_take_this_checkouts_hpc(script, tmp_path):
    impostor = tmp_path / "hpc"
    impostor.mkdir()
    (impostor / "__init__.py").write_text("raise SystemExit('another package named hpc was imported')")
    for name in ("cli", "config", "plan"):  # beside the user, as a module of the same name
        (tmp_path / f"{name}.py").write_text(
            "raise SystemExit('a module of the current folder was imported')"
        )
    command = [sys.executable, str(ROOT / "hpc" / f"{script}.py"), "--help"]
    outside = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
