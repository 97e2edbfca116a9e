"""Several sweeps: launched by one command, and compared side by side."""

import csv
import io

import pytest
from plans import WORDS, launched

from hpc.cli import launch as launch_page
from hpc.cli.launch import launch
from hpc.cli.status import status
from hpc.settings.combinations import combinations
from hpc.settings.compose import load
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import append_jsonl, write_atomic, write_json


def test_each_combination_of_listed_values_is_a_command_line():
    words = ["sweep=dcgan_lr", "preset=[dcgan, aegan]", "classes=[df,nv]", "seed=[0,1]"]
    assert combinations(words) == [
        ["sweep=dcgan_lr", f"preset={preset}", "classes=[df,nv]", f"seed={seed}"]
        for preset in ("dcgan", "aegan") for seed in (0, 1)
    ]  # fmt: skip
    assert combinations(words[:1]) == [words[:1]]
    assert combinations(["seed=[0,1]", "seed=3"]) == [["seed=[0,1]", "seed=3"]], "the last word counts"
    for word in ("seed=[]", "seed=[1,1]", "seed=[1,]"):
        with pytest.raises(SkinGanError, match="expected different values, a sweep for each"):
            combinations([word])


def settings_under(results) -> list:
    return [load(path) for path in sorted(results.glob("*/*/sweep.yaml"))]


def test_a_fault_of_one_sweep_refuses_all_before_anything_is_written(tmp_path):
    for word, said in (
        ("preset=[dcgan,nope]", "preset=nope seed=0: unknown preset"),
        ("preset=[dcgan,aegan_page]", None),
        ("fold=[0,9]", "fold=9 seed=0: settings out of range"),
    ):
        words = [*WORDS, "cluster=local", f"results={tmp_path}", word, "seed=[0,1]", "dry_run=true"]
        if said:
            with pytest.raises(SkinGanError, match=f"{said}.*; no sweep was begun"):
                launch([w for w in words if not w.startswith("dry_run")])
        else:
            assert launch(words) == 0
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(SkinGanError, match="these 2 sweeps are one and the same"):
        launch([*WORDS, "cluster=local", f"results={tmp_path}", "seed=[0,00]"])


def test_one_command_runs_a_sweep_for_each_seed_and_compares_them(tmp_path, monkeypatch, capsys):
    ran = []

    def carry_out(console, plan, *_) -> int:
        ran.append(plan.experiment.seed)
        if plan.experiment.seed == 1:
            raise SkinGanError("the disk is full")
        return plan.experiment.seed

    monkeypatch.setattr(launch_page, "carry_out", carry_out)
    assert launch([*WORDS, "cluster=local", f"results={tmp_path}", "seed=[0,1,3]"]) == 3
    assert ran == [e.seed for e in sorted(settings_under(tmp_path), key=lambda e: e.seed)] == [0, 1, 3]
    said = capsys.readouterr()
    assert "sweep 2 of 3: seed=1" in said.out and "error: the disk is full" in said.err
    [row] = [line.split() for line in said.out.splitlines() if line.startswith("seed ")]
    assert row == ["seed", "0", "1", "3"] and said.out.count("results: ") == 3


@pytest.fixture
def two(tmp_path) -> list[RunFolder]:
    """Two sweeps: of one the search runs, of the other a generator was selected and confirmed."""
    first = launched(tmp_path, "seed=1").run
    second = launched(tmp_path, "seed=2", "trial.train.batch=8")
    for run, kid in ((first, 51.25), (second.run, 40.0)):
        folder = next(iter((run.trials / "df").iterdir()))
        write_json(folder / "state.json", {"state": "completed", "best_kid": kid, "seconds": 5400.0})
        append_jsonl(folder / "metrics.jsonl", {"kid": kid, "seconds": 5400.0})
    write_json(first.jobs / "search-df.json", {"state": "done", "started": 0.0, "ended": 9000.0})
    write_json(
        second.run.jobs / "generate-df-fold-0.json", {"state": "done", "started": 0.0, "ended": 1800.0}
    )
    table = "class,setting,kid,chosen\ndf,0000,49.5,False\ndf,0003,47.5,True\n"
    write_atomic(second.run.path / "confirmation.csv", table)
    write_json(second.run.best("df") / "generator.yaml", {"trial": folder.name, "metrics": {"kid": 44.5}})
    return [first, second.run]


def test_sweeps_are_compared_in_what_differs_and_what_came_out(two, capsys, tmp_path):
    assert status([str(run.path) for run in two]) == 0
    lines = {line.split("  ")[0]: line.split()[-2:] for line in capsys.readouterr().out.splitlines()}
    assert lines["seed"] == ["1", "2"] and lines["trial.train.batch"] == ["16", "8"]
    assert lines["kid df"] == ["51.2", "44.5"] and lines["confirmed kid df"][-1] == "47.5"
    assert lines["device-hours"] == ["1.5", "2.0"]
    assert not {"sweep", "fold", "trial.optim.lr_g"} & set(lines)
    assert status([str(tmp_path)]) == 0, "a folder of sweeps"
    assert "trial.train.batch" in capsys.readouterr().out


def test_the_comparison_is_also_csv_and_a_damaged_sweep_hides_no_other(two, capsys, tmp_path):
    assert status([str(tmp_path), "--csv"]) == 0
    rows = {row["seed"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows["1"]["folder"] == str(two[0].path) and rows["1"]["confirmed kid df"] == ""
    assert (rows["2"]["kid df"], rows["2"]["confirmed kid df"], rows["2"]["device-hours"]) == (
        "44.5",
        "47.5",
        "2.0",
    )
    (two[0].jobs / "prepare.json").write_text("{")
    assert status([str(tmp_path), "--csv"]) == 2
    said = capsys.readouterr()
    assert "prepare.json is not valid JSON" in said.err and len(said.out.splitlines()) == 2
    assert status([str(tmp_path)]) == 2
    assert "prepare.json is not valid JSON" in capsys.readouterr().out
