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
    shutil.copy(ROOT / "pyproject.toml", folder)
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
        "skin_gan/metrics/scores",
        "skin_gan/ablation/arms",
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


def test_the_adaptive_sampler_proposes_from_what_trials_have_shown(checkout, tmp_path):
    said = run(
        checkout,
        f"""
        import sys
        from pathlib import Path
        from plans import plan_of
        from hpc.plan.sweep_plan import proposals
        from hpc.search.proposals import derived_again, propose_until
        from skin_gan.io import append_jsonl, read_jsonl
        plan = plan_of(Path({str(tmp_path)!r}), "classes=[df]", "search.sampler=mutation",
                       "search.trials=14", "search.startup=4", "search.rungs=[4]", "search.scheduler=none")
        for index in range(14):
            propose_until(plan, "df", index)
            spec, folder = plan.trials("df")[index]
            row = {{"kimg": 4, "images": 4000, "kid": float(index != 2), "copies": 0.0}}
            append_jsonl(folder.metrics, {{**row, "coverage": 0.9, "coverage_floor": 1.0}})
            folder.update(state="completed", kimg=4)
        rows = read_jsonl(proposals(plan.run, "df"))
        best = rows[2]["values"]
        print(*(row["sampler"] for row in rows[3:5]), "optuna" in sys.modules, "torch" in sys.modules)
        print({{name: sum(row["values"][name] == best[name] for row in rows[4:]) for name in best}})
        print(all(derived_again(plan, "df", rows, i) == rows[i]["values"] for i in range(4, 14)))
        """,
    )
    first, kept, same = said.splitlines()
    assert first == "sobol mutation False False" and same == "True"
    assert all(1 <= n <= 9 for n in eval(kept).values())


def test_the_examples_train_are_resumed_and_draw_images(checkout, tmp_path):
    said = run(
        checkout,
        f"""
        from dataclasses import replace
        from pathlib import Path
        from gan_samples import judge, open_session, spec
        from skin_gan.generator import load_generator, save_generator
        from skin_gan.folders import TrialFolder
        from skin_gan.presets import preset
        trial = replace(spec(), settings=preset("tiny"))
        for kimg in (0.08, 0.16):
            session = open_session(Path({str(tmp_path)!r}) / "trial", trial)
            row = session.advance(kimg, judge)
            session.close()
        assert row["loss_d"] > 0 and row["penalty"] > 0
        best = Path({str(tmp_path)!r}) / "best"
        card = save_generator(TrialFolder(Path({str(tmp_path)!r}) / "trial"), best, {{}})
        net, _ = load_generator(best)
        print(card["model"]["family"], row["images"], sum(p.numel() for p in net.parameters()))
        """,
    )
    assert said.split() == ["tiny", "160", str(4 * 192 + 192)]


def test_the_cluster_gives_jobs_what_its_file_says(checkout, tmp_path):
    """A dry run on a machine without Slurm prints the scripts."""
    words = ["sweep=aegan_lr", "data=demo", "budget=micro", "cluster=ours", "dry_run=true"]
    words.append("show=scripts")
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


@pytest.mark.slow
def test_the_metric_is_in_evaluations_the_leaderboard_and_tensorboards_table(checkout, tmp_path):
    """The distance of (10, 20, 30), a drawn image's colour, and (13, 24, 30), a real one's, is 5."""
    said = run(
        checkout,
        f"""
        import sys
        from skin_gan.metrics.scores import declared
        print(declared()["colour"].better, "torch" in sys.modules, "numpy" in sys.modules)

        from pathlib import Path
        from hpc.stages.prepare import columns
        from hpc.plan.sweep_plan import make_plan
        from hpc.settings.compose import compose
        e = compose(["sweep=aegan_lr", "data=demo", "results={tmp_path}", "classes=[df]"])
        print(columns(e)[1]["3 other scores/colour"])
        import json
        import numpy as np
        from hpc.stages.select import leaderboard
        from skin_gan.data.resolve import resolve
        from skin_gan.metrics import copies
        from skin_gan.metrics.evaluate import evaluate
        from skin_gan.metrics.reference import RealSet, Reference

        class Extractor:
            name, fd_name, weights_sha = "noise", "FD-noise", "abc"
            def __call__(self, images):
                return np.random.default_rng(len(images)).normal(size=(len(images), 5)).astype(np.float32)

        def images(*colour):
            return np.full((12, 3, 32, 32), np.array(colour)[:, None, None], np.uint8)

        def real(images):
            return RealSet(images, np.arange(12).astype(str), Extractor()(images))

        train, val = real(images(13, 24, 42)), real(images(13, 24, 30))
        search = copies.Training(train.features, train.images, train.lesions)
        limits = copies.thresholds("df", {{"df": search.distances(val.features, val.images)}})
        ref = Reference("df", 32, 0, "lesion", "abc", "noise", "abc", train, val, search, limits, 1.0,
                        Path({str(tmp_path)!r}))
        row = evaluate(images(10, 20, 30), ref, Extractor())
        print(row["colour"], row["colour_floor"])

        plan = make_plan(e, resolve("demo", [32], Path({str(tmp_path)!r})))
        spec, folder = plan.trials("df")[0]
        folder.path.mkdir(parents=True)
        folder.metrics.write_text(json.dumps({{**row, "kimg": 1.0}}) + "\\n")
        print([r["colour"] for r in leaderboard(plan) if r["trial"] == folder.path.name])
        """,
    )
    better, meaning, values, column = said.splitlines()
    assert meaning.startswith("distance of the mean colour") and meaning.endswith("lower is better")
    assert (better, values, column) == ("lower False False", "5.0 12.0", "[5.0]")


@pytest.mark.slow
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
