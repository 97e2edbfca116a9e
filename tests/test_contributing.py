"""The examples in CONTRIBUTING.md, copied out as a reader would, work in a copy of the package."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from data_samples import jpeg, table, unpack
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
    files = {
        "skin_gan/families",
        "skin_gan/presets",
        "skin_gan/data/layouts",
        "slurm",
        "hpc/settings/samplers",
    }
    assert kinds == files | objectives
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


def test_the_sampler_is_a_choice_that_draws_trials(checkout):
    said = run(
        checkout,
        """
        from hpc.plan.sweep_plan import trial_specs
        from hpc.settings.compose import compose
        words = ["sweep=aegan_lr", "search.sampler=grid", "search.trials=7", "search.baseline=false"]
        words += ["search.space={optim: {name: {choice: [adam, sgd]}, clip: {uniform: [0, 6]}}}"]
        words += ["trial.optim.lr_g=1e-3", "trial.optim.lr_d=1e-3"]
        for spec in trial_specs(compose(words), "data", "df"):
            print(spec.settings.optim.clip, spec.settings.optim.name)
        """,
    )
    grid = [f"{clip} {name}" for name in ("adam", "sgd") for clip in (1.0, 3.0, 5.0)]
    assert said.splitlines() == [*grid, grid[0]]


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


def test_the_cluster_gives_jobs_what_its_file_says(checkout, tmp_path):
    """A dry run on a machine without Slurm prints the scripts."""
    words = ["sweep=aegan_lr", "data=demo", "budget=micro", "cluster=ours", "dry_run=true"]
    words += [f"results={tmp_path / 'results'}"]
    code = f"import runpy, sys; sys.argv[1:] = {words}; runpy.run_path('hpc/launch.py', run_name='__main__')"
    said = run(checkout, code)
    profile = yaml.safe_load(EXAMPLES["slurm/ours.yaml"])
    (script,) = [text for text in said.split("#!/bin/bash") if "--array=0-6%7" in text]  # seven classes
    for option in ("partition", "account", "gpus_per_node", "cpus_per_task", "mem"):
        assert f"--{option.replace('_', '-')}={profile[option]}\n" in script
    assert f"--time={profile['minutes']}\n" in script and "--exclude=node13" in script
    assert all(line in script.splitlines() for line in profile["setup"])
    assert not (tmp_path / "results").exists()


def test_a_source_in_the_layout_becomes_a_store(checkout, tmp_path):
    findings = ["melanoma", "Naevus", "nevus"] * 10
    rows = [[f"p{i:02d}", finding, f"L{i // 6}-{i % 3}"] for i, finding in enumerate(findings)]
    members = {f"{name}.jpg": jpeg(i) for i, (name, *_) in enumerate(rows)}
    unpack(tmp_path / "source", members | {"list.csv": table(["photo", "finding", "lesion_id"], rows)})
    words = ["ingest", str(tmp_path / "source"), "--size", "16", "--out", str(tmp_path / "store")]
    said = run(
        checkout,
        f"""
        from skin_gan.data.__main__ import main
        from skin_gan.data.store import open_store
        assert main({words}) == 0
        store = open_store({str(tmp_path / "store")!r})
        print(store.kind, store.unit, store.counts["mel"], store.counts["nv"], store.units)
        """,
    )
    assert said.splitlines()[-1].split() == ["clinic", "lesion", "10", "20", "15"]
    rows[7][1] = "wart"
    unpack(tmp_path / "source", {"list.csv": table(["photo", "finding", "lesion_id"], rows)})
    words[-1] = str(tmp_path / "other")
    said = run(checkout, f"from skin_gan.data.__main__ import main; print(main({words}))")
    assert said.split()[-1] != "0" and not (tmp_path / "other").exists()
