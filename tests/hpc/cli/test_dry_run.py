"""A dry run refuses what a launch would, writes nothing, and says which data is meant."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from places import ROOT

from hpc.cli import cost
from hpc.cli.checks import check_launch
from hpc.cli.launch import launch
from hpc.plan.sweep_plan import make_plan
from hpc.settings.compose import changes, compose
from hpc.slurm import client
from hpc.state.provenance import record_launch
from skin_gan.data import demo
from skin_gan.data.build import manifest_csv
from skin_gan.data.resolve import describe
from skin_gan.data.splits import assign_folds, split_parts
from skin_gan.data.store import FORMAT, Store, class_split, describe_rows, open_store, store_json
from skin_gan.errors import SkinGanError
from skin_gan.io import lock

BASE = ("sweep=aegan_lr", "budget=demo", "cluster=local")
ALONE = "ablate.classifiers={}"
FIVE = "ablate.folds=[0,1,2,3,4]"


def store_of(folder: Path, lesions: dict[str, int], images: int = 1, size: int = 32) -> Store:
    """A store with so many lesions of each class, each of so many images."""
    rows = [
        {"image_id": f"{label}-{i}-{j}", "lesion_id": f"{label}-{i}", "dx": label, "group": f"{label}-{i}",
         "sha256": f"{label}{i}{j}"}
        for label, n in lesions.items() for i in range(n) for j in range(images)
    ]  # fmt: skip
    folder.mkdir(parents=True)
    np.save(folder / f"images-{size}.npy", np.zeros((len(rows), size, size, 3), np.uint8))
    (folder / "manifest.csv").write_text(manifest_csv(rows))
    store = Store(folder, folder.name, "folder", unit="lesion", partial=False, format=FORMAT,
                  **describe_rows(rows, {"size": size}))  # fmt: skip
    (folder / "store.json").write_text(store_json(store))
    return open_store(folder)


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    """No test here is about the cost, which takes some seconds to time."""
    monkeypatch.setattr(cost, "timed_here", lambda e: None)


def check(store: Store, results: Path, *words: str) -> None:
    e = compose([*BASE, f"data={store.path}", f"results={results}", *words])
    check_launch(make_plan(e, store), store)


# Of n lesions that are dealt in rounds each of the five folds gets n/5, rounded down or up.


@pytest.mark.parametrize(("n", "says"), [(25, None), (24, "4 test lesions where a verdict needs 5")])
def test_a_class_is_judged_by_five_test_lesions_in_every_fold(tmp_path, n, says):
    store = store_of(tmp_path / "mine", {"nv": 100, "df": n})
    with pytest.raises(SkinGanError, match=f"mine: class df has in fold .* {says}") if says else no_error():
        check(store, tmp_path, FIVE)
    check(store, tmp_path, FIVE, ALONE)  # without classifiers no test lesion is needed


def test_classes_that_are_not_searched_are_judged_too(tmp_path):
    store = store_of(tmp_path / "mine", {"nv": 100, "df": 9})
    with pytest.raises(SkinGanError, match=r"class df has in fold 0 [12] test lesions where a verdict"):
        check(store, tmp_path, "classes=[nv]")
    check(store, tmp_path, "classes=[nv]", ALONE)


@pytest.mark.parametrize("label", ["50%j", "a/b", "a\\b"])
def test_a_class_whose_name_cannot_name_a_folder_is_refused(tmp_path, label):
    store = store_of(tmp_path / "mine", {"nv": 100, label: 40, "no: 1, ä#": 40})
    with pytest.raises(SkinGanError, match="expected a name without /, % and"):
        check(store, tmp_path)
    check(store, tmp_path, "classes=['no: 1, ä#']")


@pytest.mark.parametrize(
    ("lesions", "images", "says"),
    [
        (20, 1, None),  # 12 training images, 4 validation lesions
        (15, 1, "9 training images of 9 lesions, where 10 of 3 are needed"),
        (10, 3, "2 validation lesions where 3 are needed"),  # 18 training images
        (1, 30, "0 validation lesions"),
    ],
)
def test_a_class_is_searched_and_measured_by_enough_images(tmp_path, lesions, images, says):
    store = store_of(tmp_path / "mine", {"nv": 100, "df": lesions}, images)
    with pytest.raises(SkinGanError, match=f"class df has in fold 0 .*{says}") if says else no_error():
        check(store, tmp_path, ALONE)
    if not says:
        assert len(class_split(store, "df", 32, 0).train.images) == 12


def no_error() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def test_the_drawn_classes_are_large_enough_in_every_fold():
    rows = demo.rows()
    labels, groups = [r["dx"] for r in rows], np.array([r["group"] for r in rows])
    folds = assign_folds(groups.tolist(), labels)
    for fold in range(5):
        for label in set(labels):
            for part, least in (("train", 3), ("val", 3), ("test", 5)):
                mask = (split_parts(folds, fold) == part) & (np.array(labels) == label)
                assert len(set(groups[mask])) >= least


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    store_of(folder / "good", {"nv": 100, "df": 40})
    store_of(folder / "small", {"nv": 100, "df": 3})
    damaged = store_of(folder / "damaged", {"nv": 100, "df": 40}).path / "images-32.npy"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    (folder / "file").write_text("")
    return folder


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data={}/small"], "class df has in fold 0"),
        (["data={}/small", "classes=[dff]"], "unknown class dff"),
        (["data={}/good", "trial.model.size=128"], "no images of size 128 (sizes there: 32)"),
        (["data={}/damaged"], "damaged"),
        (["data={}/none"], "no such folder"),
        (["data={}/good", "seed=-1"], "seed=-1: expected at least 0"),
        (["data={}/good", "results={}/file/x"], "cannot write results="),
        (["data={}/good", "results=/proc/nope"], "choose another folder by results="),
        (["data=demo", "results=/proc/nope"], "choose another folder by results="),
        (["data={}/good", "profile.gpus_per_node=99"], "99"),
        pytest.param(["data={}/good", "operations.device=cuda"], "torch sees no GPU here",
                     marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")),
    ],
)  # fmt: skip
def test_a_dry_run_refuses_what_a_launch_refuses(stores, tmp_path, words, says):
    words = [*BASE, f"results={tmp_path}/new", *(w.format(stores) for w in words)]
    said = []
    for more in ([], ["dry_run=true"]):
        with pytest.raises(SkinGanError) as e:
            launch([*words, *more])
        said.append(str(e.value))
    assert said[0] == said[1] and says in said[0] and "\n" not in said[0]
    assert not (tmp_path / "new").exists() and list(tmp_path.iterdir()) == []


def test_a_dry_run_says_which_data_is_meant_and_what_a_word_replaces(stores, tmp_path, capsys):
    assert (
        launch([*BASE, f"data={stores}/good", f"results={tmp_path}", "seed=1", "seed=2", "dry_run=true"]) == 0
    )
    out = " ".join(capsys.readouterr().out.split())
    assert (
        f"data: good, 140 images of 140 lesions, fingerprint {open_store(stores / 'good').fingerprint[:8]}"
        in out
    )
    assert f"{stores / 'good'}" in out and "seed=1 is ignored: seed=2 comes later" in out
    (tmp_path / "stores").mkdir()
    shutil.copytree(stores / "good", tmp_path / "stores" / "good")
    launch([*BASE, f"results={tmp_path}", "dry_run=true"])
    out = " ".join(capsys.readouterr().out.split())
    assert f"{tmp_path / 'stores' / 'good'}, chosen by data=auto" in out


def test_a_dry_run_asks_slurm_where_there_is_one(stores, tmp_path, monkeypatch, capsys):
    words = [*BASE[:2], "cluster=cpu", f"data={stores}/good", f"results={tmp_path}", "dry_run=true", ALONE]
    monkeypatch.setenv("PATH", "/nonexistent")
    assert launch(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "not checked against the cluster: there is no squeue here" in out
    partitions = "PartitionName=cpu Default=YES MaxTime=01:00:00"
    answers = {"squeue": "", "partition": partitions, "config": "MaxArraySize = 1001"}
    monkeypatch.setattr(client, "client", lambda *w: answers[w[0] if w[0] in answers else w[-1]])
    client.max_array.cache_clear()
    with pytest.raises(SkinGanError, match="partition cpu allows at most 60"):
        launch(words)
    with pytest.raises(SkinGanError, match=r"profile\.partition=gpu: this cluster has cpu"):
        launch([*words, "profile.partition=gpu"])
    assert launch([*words, "profile.minutes=60"]) == 0
    client.max_array.cache_clear()
    assert list(tmp_path.iterdir()) == []


def test_changed_settings_are_named_with_what_they_were(tmp_path):
    before = compose([*BASE, "data=demo", "search.trials=2"])
    now = compose([*BASE, "data=demo", "search.trials=3", "operations.threads=2"])
    assert changes(before, now) == ["operations.threads=2 (was 1)", "search.trials=3 (was 2)"]
    assert changes(now, now) == []


# Reading needs no writing


def unprivileged() -> list[str]:
    """What makes a command heed permissions: the superuser's does not."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("only setpriv takes the superuser's rights")
    return ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*unprivileged(), sys.executable, str(ROOT / "hpc" / f"{script}.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


@pytest.fixture
def readonly(stores, tmp_path):
    """A sweep's folder with every kind of lock, in which nobody may write."""
    words = [*BASE, f"data={stores}/good", f"results={tmp_path}/results"]
    store = describe(f"{stores}/good", tmp_path)
    plan = make_plan(compose(words), store)
    record_launch(plan, store, words)
    for path in (
        plan.run.path / "launch.lock",
        plan.run.jobs / "search-df.lock",
        plan.trials("df")[0][1].lock,
    ):
        with lock(path):
            pass
    everything = [plan.run.path.parents[1], *plan.run.path.parents[1].rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield plan.run.path, words
    for path in everything:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_status_and_help_read_a_folder_that_nobody_may_write(readonly):
    path, _ = readonly
    done = run("status", str(path), "--trials")
    assert done.returncode == 0 and "no launch is running" in done.stdout, done.stderr
    assert run("launch", "--help").returncode == run("launch", "--version").returncode == 0


def test_what_must_write_there_says_so_on_one_line(readonly):
    path, words = readonly
    for done in (run("launch", *words, "dry_run=true"), run("launch", *words), run("aggregate", str(path))):
        assert done.returncode == 2 and "cannot write" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("omegaconf", "VERSION = 1"),
        ("omegaconf", "import nowhere_to_be_found"),
        ("yaml", ""),
        ("rich", "def ("),
        ("numpy", "raise RuntimeError('no such processor')"),
    ],
)
def test_a_package_that_comes_first_by_pythonpath_is_named(tmp_path, name, content):
    (tmp_path / f"{name}.py").write_text(content)
    for script in ("launch", "status", "aggregate", "steer"):
        command = [sys.executable, str(ROOT / "hpc" / f"{script}.py"), "--help"]
        done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert f"{tmp_path}" in done.stderr and "unset PYTHONPATH" in done.stderr


def test_the_version_is_this_checkouts(capsys):
    assert launch(["--version"]) == 0
    assert capsys.readouterr().out.startswith("skin-gan 0.")
