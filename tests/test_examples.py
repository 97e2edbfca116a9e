"""The scripts in examples/ do what their help says."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from places import ROOT

from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, TrialFolder
from skin_gan.io import read_jsonl

SCRIPT = ROOT / "examples" / "train_one.py"
SHORT = ["--label", "df", "--size", "16", "--threads", "1", "--out"]


@pytest.fixture(scope="module")
def train_one() -> ModuleType:
    found = spec_from_file_location("train_one", SCRIPT)
    assert found and found.loader
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_one_gan_is_trained_measured_found_done_and_trained_further(train_one, tmp_path, capsys) -> None:
    for kimg, measured in ((0.064, [64]), (0.064, [64]), (0.128, [64, 128])):
        train_one.train(train_one.arguments([*SHORT, str(tmp_path), "--kimg", str(kimg)]))
        (trial,) = tmp_path.glob("df-*")
        rows = read_jsonl(TrialFolder(trial).metrics)
        assert [row["images"] for row in rows] == measured  # nothing twice
        said = capsys.readouterr().out
        shown = dict(re.findall(r"^(\w+) +(\S+)$", said, re.MULTILINE))
        assert float(shown["kid"]) == round(rows[-1]["kid"], 3)
        state = TrialFolder(trial).state()
        assert (state["state"], state["kimg"]) == (COMPLETED, kimg)
    with Image.open(said.split("images: ")[-1].strip()) as sheet:
        assert min(sheet.size) > 16


def test_its_help_names_every_option(train_one, capsys) -> None:
    with pytest.raises(SystemExit):
        train_one.arguments(["--help"])
    options = re.findall(r"^  --(\w+)", capsys.readouterr().out, re.MULTILINE)
    assert options == ["label", "size", "kimg", "preset", "data", "out", "threads", "seed"]


@pytest.mark.parametrize("words", (["--preset", "no_such"], ["--size", "17"], ["--kimg", "-1"]))
def test_a_wrong_value_is_named_before_anything_is_written(train_one, words, tmp_path) -> None:
    with pytest.raises(SkinGanError, match=words[1]):
        train_one.train(train_one.arguments([*SHORT, str(tmp_path), *words]))
    assert not list(tmp_path.iterdir())


def test_as_a_command_it_says_in_a_line_which_classes_there_are(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), *SHORT, str(tmp_path), "--label", "no_such"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=280)
    assert done.returncode == 1 and "no_such" in done.stderr and "vasc" in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_it_is_short() -> None:
    assert len(SCRIPT.read_text().splitlines()) < 80
