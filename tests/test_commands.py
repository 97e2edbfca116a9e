"""Each command of README.md and docs/ does what a reader would have it do, in a folder like a checkout.

Blocks of commands are marked ```sh. Launches are run as dry runs, and what takes long is asked for less. A
block whose first line is `# on a cluster` is not run here: tests/slurm has real clusters.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from data_samples import ham10000, picture
from launches import run_of
from packaging.requirements import Requirement
from places import ROOT

from hpc.cli import cost
from hpc.cli.launch import launch

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^((python|make|pip|source|export|tensorboard) |slurm/)")
NOT_HERE = ("# on a cluster", "#!")  # the latter is a file
# What is added to a command, or stands in its place: the last of two equal options counts.
LESS = {
    "python examples/train_one.py": "--size 16 --kimg 0.064",
    "python -m skin_gan.generate": "--count 2",
    "python -m skin_gan.measure": "--count 8",
}
LAUNCH, DRY, SETUP = "python hpc/launch.py", "dry_run=true", "source .venv/bin/activate"
# Inline, with words that stand for others; each is run by the test that is named.
ELSEWHERE = {
    "tensorboard --logdir RUN": "tests/skin_gan/training/test_browser.py",
    "python hpc/launch.py": "tests/hpc/cli/test_launch.py",
    "python hpc/status.py": "tests/hpc/cli/test_status.py",
    "python hpc/status.py RUN RUN": "tests/hpc/cli/test_compare.py",
    "python hpc/launch.py KEY=VALUE": "tests/hpc/cli/test_launch.py",
    "python hpc/launch.py key=value ...": "tests/hpc/cli/test_launch.py",
    "python hpc/launch.py --help all > docs/settings.md": "tests/hpc/cli/test_settings_help.py",
    "python -m skin_gan.pretrained fetch NAME": "tests/skin_gan/metrics/test_metrics_features.py",
}
# With places that depend on the reader's machine.
INSTALLS = ("pip install torch torchvision --index-url INDEX", "pip install -c constraints.txt ...")


def blocks() -> list[tuple[str, str]]:
    """The language and content of every fenced block that is no directive of the site."""
    found = [block for page in PAGES for block in FENCE.findall(page.read_text())]
    return [(language, content) for language, content in found if not language.startswith("{")]


def lines(block: str) -> list[str]:
    """The commands of a block, without comments; a line that ends in a backslash goes on in the next."""
    found = re.sub(r"\s*\\\n\s*", " ", block).splitlines()
    return [
        re.sub(r"\s+# .*$", "", line).strip() for line in found if line.strip() and not line.startswith("#")
    ]


def in_blocks() -> list[str]:
    shell = [text for language, text in blocks() if language == "sh" and not text.startswith(NOT_HERE)]
    return [*dict.fromkeys(line for content in shell for line in lines(content))]


def inline() -> list[str]:
    text = "\n".join(FENCE.sub("", page.read_text()) for page in PAGES)
    found = re.findall(r"`([^`]+)`", text)
    return [*dict.fromkeys(" ".join(x.split()) for x in found if COMMAND.match(x) and " " in x)]


def of(kind: str) -> list[str]:
    return [c for c in [*in_blocks(), *inline()] if c.startswith(kind)]


def test_commands_stand_in_blocks_that_are_tested():
    shown = {language for language, content in blocks() if any(map(COMMAND.match, lines(content)))}
    assert shown == {"sh"}
    assert len(in_blocks()) > 20 and len(PAGES) > 15
    assert all(map(COMMAND.match, in_blocks()))


def test_what_is_run_elsewhere_is_still_told_and_tested():
    known = {*in_blocks(), *inline()}
    for command, test in ELSEWHERE.items():
        assert command in known and (ROOT / test).exists(), command
    alone = [c for c in inline() if not c.startswith(("make ", "pip ")) and c not in in_blocks()]
    assert {*alone} == {*ELSEWHERE}, "give it in a block, or name the test that runs it"


@pytest.mark.parametrize("command", of("make "))
def test_a_target_of_make_exists(command):
    done = subprocess.run([*command.split(), "-n", "PYTHON=python"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", of("pip "))
def test_what_is_installed_is_known(command):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if command in INSTALLS:
        return
    (named,) = (word for word in shlex.split(command)[2:] if word != "-e")
    wanted = Requirement(named.replace(".[", f"{project['name']}[", 1))
    if wanted.name == project["name"]:
        assert wanted.extras <= set(project["optional-dependencies"])
    elif wanted.name != "jupyterlab":
        assert wanted.specifier.contains(version(wanted.name))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder in which commands find what the pages tell of: downloads and images of others."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("hpc", "skin_gan", "examples", "sweeps", "slurm", "docs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "results").mkdir()
    (folder / "results" / "published").symlink_to(ROOT / "results" / "published")
    ham10000(folder / "home" / "HAM10000", 7 * 60)
    clinic = folder / "home" / "clinic"
    clinic.mkdir()
    rows = ["file,diagnosis,lesion,patient"]
    for i in range(12):
        picture(1000 + i).save(clinic / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]},l{i},p{i // 2}")
    (clinic / "cases.csv").write_text("\n".join(rows) + "\n")
    for c, label in enumerate(("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")):
        (folder / "theirs" / label).mkdir(parents=True)
        for i in range(8):
            picture(2000 + 10 * c + i, (64, 64)).save(folder / "theirs" / label / f"{i}.png")
    return folder


def run(checkout: Path, command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "HOME": str(checkout / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=checkout, env=environment, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def try_out(checkout: Path, command: str) -> None:
    """Run the command, a launch as a dry run in this process, since that does not time the machine."""
    if command.startswith(LAUNCH):
        words = shlex.split(command.removeprefix(LAUNCH))
        assert launch([*words, *([] if "--help" in words else [DRY, f"results={checkout / 'results'}"])]) == 0
    else:
        less = [words for start, words in LESS.items() if command.startswith(start)]
        run(checkout, " ".join([command, *less]))


INGESTS = [c for c in in_blocks() if "skin_gan.data ingest" in c]


@pytest.fixture(scope="module")
def swept(checkout) -> Path:
    """The same with the stores that the pages make, and RUN, a sweep of one class."""
    for command in INGESTS:
        run(checkout, command if "--out" in command else f"{command} --out results/stores/own")
    words = (
        f"data=results/stores/ham10000 results={checkout}/results 'classes=[df]' 'ablate.classifiers={{}}'"
    )
    made = run(checkout, f"{LAUNCH} sweep=aegan_lr budget=micro {words}")
    (checkout / "RUN").symlink_to(run_of(made.stdout))
    return checkout


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in in_blocks() if not c.startswith(("make ", "pip ", SETUP))])
def test_it_runs(command, swept, monkeypatch):
    monkeypatch.chdir(swept)
    monkeypatch.setattr(cost, "timed_here", lambda e: None)
    if command not in INGESTS:
        try_out(swept, command)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=lambda p: p.stem)
def test_lines_of_python_run_one_after_the_other(page, swept):
    shown = [content for language, content in FENCE.findall(page.read_text()) if language == "python"]
    run(swept, f"python -c {shlex.quote(''.join(shown))}")
