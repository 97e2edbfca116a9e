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
    assert kinds == {"skin_gan/families", "skin_gan/presets", "skin_gan/ablation/arms"} | objectives
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


def test_the_arm_is_a_choice_that_is_trained_and_has_a_title(checkout, tmp_path):
    said = run(
        checkout,
        f"""
        from pathlib import Path
        import numpy as np, torch
        from bench_samples import MeanColour, make_store
        from hpc.plan.ablation import arm_tasks, choose
        from hpc.report.wording import arm_title
        from hpc.settings.ablation import arms
        from hpc.settings.compose import compose
        from skin_gan.ablation.arms import ARMS
        from skin_gan.ablation.classifiers import ClassifierSettings
        from skin_gan.ablation.classify import Task, run_arm
        from skin_gan.ablation.frozen import Frozen
        from skin_gan.ablation.parts import lesion_split
        from skin_gan.ablation.trainingset import training_set
        a = compose(["sweep=aegan_lr", "ablate.classifiers={{cnn: {{arms: [real, mirrored]}}}}"]).ablate
        plan = a.classifiers["cnn"]
        print([t.arm for t in arm_tasks(a) if t.classifier == "cnn"], arm_title("mirrored"), sep="|")
        print(choose({{"real": 0.5, "mirrored": 0.6}}, plan)["strongest"])

        store = make_store(Path({str(tmp_path)!r}) / "store")
        split, arm = lesion_split(store, 0), arms(a, plan)["mirrored"]
        train = training_set(store, split, 32, arm)
        counts = np.bincount(train.labels)
        images = train.images[torch.arange(len(train.labels))].numpy()
        real = images[:(split.parts == "train").sum()]
        known = {{(k, np.rot90(x[..., ::-1], turn, (1, 2)).tobytes())
                 for x, k in zip(real, train.labels) for turn in range(4)}}
        added = list(zip(images[len(real):], train.labels[len(real):]))
        print(len({{*counts.tolist()}}), all((k, x.tobytes()) in known for x, k in added) and len(added) > 9)

        frozen = Frozen(store, 32, Path({str(tmp_path)!r}) / "cache", MeanColour())
        for network in ("cnn", "head"):
            task = Task(store, split, ClassifierSettings(network, 32, 12, 16), frozen)
            mine, plain = (run_arm(task, one, 0)["val"] for one in (arm, ARMS["duplicate"]))
            print(network, mine.record["id"] != plain.record["id"],
                  mine.record["real"] == plain.record["real"],
                  bool(np.abs(mine.probabilities - plain.probabilities).max() > 1e-3))
        """,
    )
    assert said.splitlines() == [
        "['real', 'mirrored', 'real']|mirrored photographs added",
        "mirrored",
        "1 True",
        "cnn True True True",
        "head True True True",
    ]
