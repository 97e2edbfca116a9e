"""The examples in CONTRIBUTING.md, copied out as a reader would, work in a copy of the package."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from places import ROOT, SUPPORT

BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXAMPLES = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The packages with the examples in their places."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("skin_gan", "hpc", "sweeps", "slurm"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in EXAMPLES.items():
        assert not (folder / name).exists(), f"{name} is there already"
        (folder / name).write_text(text)
    return folder


def run(checkout: Path, code: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = {
        "PYTHONPATH": f"{checkout}:{SUPPORT}",
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_an_example_of_each_kind_and_it_is_short():
    kinds = {str(Path(name).parent) for name in EXAMPLES}
    objectives = {f"skin_gan/objectives/{kind}" for kind in ("losses", "penalties", "augmentations")}
    assert kinds == {"skin_gan/families", "skin_gan/presets"} | objectives
    assert all(len(text.splitlines()) < 60 for text in EXAMPLES.values())


def test_the_examples_are_choices_of_a_launch(checkout):
    said = run(
        checkout,
        """
        import sys
        from hpc.settings.compose import compose
        words = ["sweep=aegan_lr", "preset=tiny", "trial.train.augment=noise",
                 "search.space.loss.drift={loguniform: [1e-4, 1e-2]}"]
        trial = compose(words).trial
        print(trial.model.family, trial.loss.name, trial.loss.drift, "torch" in sys.modules)
        """,
    )
    assert said.split() == ["tiny", "least_squares", "0.001", "False"]


def test_the_examples_train_are_resumed_and_draw_images(checkout, tmp_path):
    said = run(
        checkout,
        f"""
        from dataclasses import replace
        from pathlib import Path
        from gan_samples import judge, open_session, spec
        from skin_gan.export import export, load_generator
        from skin_gan.folders import TrialFolder
        from skin_gan.presets import preset
        trial = replace(spec(), settings=preset("tiny"))
        for kimg in (0.08, 0.16):
            session = open_session(Path({str(tmp_path)!r}) / "trial", trial)
            row = session.advance(kimg, judge)
            session.close()
        assert row["loss_d"] > 0 and row["penalty"] > 0
        card = export(TrialFolder(Path({str(tmp_path)!r}) / "trial"), Path({str(tmp_path)!r}) / "best", {{}})
        net, _ = load_generator(Path({str(tmp_path)!r}) / "best")
        print(card["model"]["family"], row["images"], sum(p.numel() for p in net.parameters()))
        """,
    )
    assert said.split() == ["tiny", "160", str(4 * 192 + 192)]
