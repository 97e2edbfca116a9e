"""`skin-gan`, installed from a wheel: a folder that is no checkout, with the packages of this environment."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from places import ROOT

import skin_gan
from hpc.cli.main import MODULES, SCRIPTS

GENERATOR = ROOT / "results/published/projected-ham10000-64/best/df"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The `bin` of an environment that holds the wheel, and sees this one's other packages."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    (wheel,) = folder.glob("*.whl")
    python = folder / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    # A line of a .pth file adds the packages, but not what those packages' own .pth files add: this checkout.
    packages = next((folder / "env" / "lib").glob("python*/site-packages"))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def skin_gan_(
    installed: Path, folder: Path, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder, with nothing of this checkout on Python's path."""
    folder.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    command = [str(installed / "skin-gan"), *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    print(done.stdout, done.stderr)
    return done


def test_every_command_tells_what_it_does(installed, tmp_path):
    told = skin_gan_(installed, tmp_path)
    assert told.returncode == 2
    assert re.findall(r"^  (\w+) ", told.stdout, re.MULTILINE) == [*SCRIPTS, *MODULES]
    assert skin_gan_(installed, tmp_path, "--version").stdout == f"skin-gan {skin_gan.__version__}\n"
    for name in (*SCRIPTS, *MODULES):
        help_ = skin_gan_(installed, tmp_path, name, "--help")
        assert help_.returncode == 0 and "usage: " in help_.stdout
        assert "hpc/" not in help_.stdout, "no path of a checkout"
    unknown = skin_gan_(installed, tmp_path, "sweep=aegan_lr")
    assert unknown.returncode == 2 and unknown.stderr.endswith("skin-gan launch sweep=aegan_lr\n")
    assert len(unknown.stderr.splitlines()) == 1


def test_own_sweeps_are_found_where_one_works_and_in_ones_configuration(installed, tmp_path):
    work, home = tmp_path / "work", tmp_path / "home"
    (work / "sweeps" / "budgets").mkdir(parents=True)
    (home / "skin-gan" / "sweeps").mkdir(parents=True)
    for folder, name in ((work / "sweeps", "here"), (home / "skin-gan" / "sweeps", "mine"), (work, "path")):
        (folder / f"{name}.yaml").write_text("# What?\npreset: dcgan\ntrial: {model: {size: 32}}\n")
    (work / "sweeps" / "budgets" / "tiny.yaml").write_text("# Tiny.\nsearch: {trials: 3}\n")
    for name, sweep in (("here", "here"), ("mine", "mine"), ("./path.yaml", "path")):
        words = (
            f"sweep={name}",
            "data=demo",
            "budget=tiny",
            "cluster=one_gpu",
            "dry_run=true",
            "show=settings",
        )
        done = skin_gan_(installed, work, "launch", *words, XDG_CONFIG_HOME=str(home))
        assert done.returncode == 0 and f"\nsweep: {sweep}\n" in done.stdout and "trials: 3" in done.stdout
    assert not (work / "results").exists()


@pytest.mark.slow
def test_a_sweep_reaches_its_verdict_in_an_empty_folder(installed, tmp_path):
    done = skin_gan_(
        installed, tmp_path, "launch", "sweep=aegan_lr", "data=demo", "budget=micro", "classes=[df,vasc]"
    )
    assert done.returncode == 0
    (run,) = (tmp_path / "results" / "aegan_lr").iterdir()
    assert (run / "leaderboard.csv").exists() and (run / "best" / "df").exists()
    made = skin_gan_(installed, tmp_path, "generate", str(GENERATOR), "--count", "4", "--out", "drawn")
    assert made.returncode == 0 and len(list((tmp_path / "drawn" / "df").glob("*.png"))) == 4
    shared = skin_gan_(installed, tmp_path, "export", str(GENERATOR), "--to", "shared")
    assert shared.returncode == 0
    words = ["-I", "shared/generator.py", "--count", "2", "--out", "plain"]
    subprocess.run([str(installed / "python"), *words], cwd=tmp_path, check=True)
    assert len(list((tmp_path / "plain").rglob("*.png"))) == 2
    shown = skin_gan_(installed, tmp_path, "status")
    assert shown.returncode == 0 and run.name in shown.stdout
