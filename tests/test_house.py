"""The house's rules: imports point one way, the edges stay at the edge, starting up is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
    allowed = {"submitit": "hpc/cluster.py", "ray": "hpc/search.py"}
    for package, home in allowed.items():
        if str(path.relative_to(ROOT)) != home:
            assert package not in packages(path), f"only {home} may import {package}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_science_knows_nothing_of_the_cluster(path):
    if path.is_relative_to(ROOT / "skin_gan"):
        assert not packages(path) & {"hpc", "omegaconf", "submitit", "ray"}


# Rooms of skin_gan from the ground up. Each imports from those below, and none from beside it or above.
FLOORS = (
    {"cores", "errors", "rng", "words"},
    {"io", "identity", "ranges", "variants", "fast"},
    {"folders", "config", "models", "data"},
    {"presets", "objectives", "metrics"},
    {"families"},
    {"training"},
    {"export"},
    {"generate"},
    {"ablation"},
)


def test_rooms_import_from_the_floors_below_alone():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for path in (ROOT / "skin_gan").glob("**/*.py"):
        room = path.relative_to(ROOT / "skin_gan").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        imported = {name.split(".")[1] for name in imports(path) if name.startswith("skin_gan.")}
        upward = {other for other in imported - {room} if floor[other] >= floor[room]}
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}"


def test_no_module_hides_one_of_the_standard_library():
    assert not {p.stem for p in (ROOT / "hpc").glob("*.py")} & set(sys.stdlib_module_names)


TORCHLESS = (
    "hpc.cli",
    "hpc.config",
    "hpc.plan",
    "hpc.progress",
    "hpc.monitor",
    "hpc.steering",
    "hpc.jobstates",
    "hpc.ablation",
    "skin_gan.config",
    "skin_gan.folders",
)


@pytest.mark.parametrize("module", TORCHLESS)
def test_planning_and_status_start_without_torch(module):
    code = f"import sys, {module}; print({{'torch', 'ray', 'submitit', 'pandas'}} & set(sys.modules))"
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
