"""The house's rules: imports point one way, the edges stay at the edge, starting up is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
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
    "hpc.cli",
    "skin_gan.config",
    "skin_gan.folders",
)


@pytest.mark.parametrize("room", QUICK)
def test_planning_and_status_start_without_torch(room):
    names = [name for name in house.modules() if house.room(name) == room]
    assert names
    code = (
        f"import sys, {', '.join(names)}; print({{'torch', 'ray', 'submitit', 'pandas'}} & set(sys.modules))"
    )
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
