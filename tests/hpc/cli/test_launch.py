"""The real command, through Submitit and Ray: finished, killed, resumed, extended, attached to, misused."""

import io
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from file_counts import CODE, PER_JOB, files
from launches import MICRO, command, drivers, hpc, launch, ours_alive, rows_of, run_of, trainers, wait_until
from rich.console import Console

from hpc.cli.launch import attach
from hpc.settings.compose import compose, save
from skin_gan.folders import RunFolder
from skin_gan.io import lock, locked, read_json, read_jsonl


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two classes, two trials each, launched once for all tests that only look, in a folder of odd signs."""
    results = tmp_path_factory.mktemp("results") / 'it\'s #1, a "Läsion" [x] {y} &; 皮'
    done = launch(results, "classes=[df,vasc]")
    assert done.returncode == 0, done.stderr
    return results, run_of(done.stdout), done


def test_it_ends_with_a_leaderboard_generators_and_where_to_look(finished):
    _, run, done = finished
    rows = rows_of(run)
    assert [r["class"] for r in rows] == ["df", "df", "vasc", "vasc"]
    contract = "class trial state kimg kid kid_low kid_high kid_floor fd precision recall density coverage"
    assert {*contract.split(), "c2st", "copies", "optim.lr_g", "optim.lr_d"} <= set(rows[0])
    for row in rows:
        assert row["state"] in ("completed", "pruned")
        assert float(row["kid_low"]) <= float(row["kid"]) <= float(row["kid_high"])
    for label in ("df", "vasc"):
        assert (run / "best" / label / "generator.safetensors").stat().st_size > 1000
        assert (run / "best" / label / "samples.png").exists()
    assert f"tensorboard --logdir {run}" in done.stdout
    assert "nothing about skin" in done.stdout


def test_jobs_and_code_are_few_files(finished):
    """The bound on the files of a whole sweep counts on it: see test_ablation.py."""
    _, run, _ = finished
    assert files(run / "jobs") <= PER_JOB * len(list(run.glob("jobs/*.json")))
    [code] = (run / "code").iterdir()
    assert 100 < files(code) <= CODE


def test_every_launch_says_what_is_going_on(finished):
    _, _, done = finished
    assert "search:" in done.stdout and "trials ended" in done.stdout


def test_the_same_command_again_has_nothing_to_do(finished):
    results, run, _ = finished
    before = {p: p.stat().st_mtime_ns for p in run.glob("trials/*/*/*") if p.name != "lock"}
    done = launch(results, "classes=[df,vasc]", timeout=20)
    assert done.returncode == 0 and "nothing left to do" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.slow
def test_one_more_trial_extends_the_sweep_and_redoes_nothing(finished):
    results, run, _ = finished
    before = {p: p.read_bytes() for p in run.glob("trials/df/000[01]-*/metrics.jsonl")}
    done = launch(results, "classes=[df]", "search.trials=3")
    assert done.returncode == 0
    assert (
        "changed since the last launch: classes=['df'] (was ['df', 'vasc']), search.trials=3 (was 2)"
        in done.stdout
    )
    assert len(before) == 2 and {p: p.read_bytes() for p in before} == before
    assert len(rows_of(run)) == 3


def test_no_process_is_left(finished):
    results, *_ = finished
    assert ours_alive(results) == []


def test_status_reads_the_folder(finished):
    _, run, _ = finished
    done = hpc("status", str(run), "--trials")
    assert done.returncode == 0 and "no launch is running" in done.stdout
    assert "0001-" in done.stdout and "df" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["launch", "search", "trial"])
def test_a_kill_at_any_level_loses_nothing(tmp_path, victim):
    """SIGKILL the launcher, the Ray driver or a Ray worker in mid-trial; launch again."""
    words = ("classes=[df]", "search.scheduler=none", "operations.checkpoint_seconds=0")
    with subprocess.Popen(
        command(tmp_path, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        wait_until(lambda: any(tmp_path.glob("aegan_lr/*/trials/df/*/last.pt")))
        kill(victim, process, tmp_path)
        process.wait(timeout=120)
    done = launch(tmp_path, *words)
    assert done.returncode == 0
    run = run_of(done.stdout)
    rows = rows_of(run)
    assert [r["state"] for r in rows] == ["completed", "completed"]
    for folder in run.glob("trials/df/0*"):
        evaluated = [row["kimg"] for row in read_jsonl(folder / "metrics.jsonl")]
        assert evaluated == [0.064, 0.192], "each rung once"
    wait_until(lambda: ours_alive(tmp_path) == [], 30)


def kill(victim: str, process: subprocess.Popen[bytes], results: Path) -> None:
    if victim == "launch":
        process.kill()
        return
    searches = drivers(results)
    victims = searches if victim == "search" else trainers(searches)
    assert victims
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_ctrl_c_stops_everything_and_says_how_to_go_on(tmp_path):
    words = ("classes=[df]", "search.trials=1", "search.rungs=[100]", "operations.checkpoint_seconds=1000")

    def trained() -> float:
        states = map(read_json, tmp_path.glob("aegan_lr/*/trials/df/*/state.json"))
        return max((state["kimg"] for state in states), default=0.0)

    with subprocess.Popen(
        command(tmp_path, *words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: trained() > 0)
        reached = trained()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    [last] = tmp_path.glob("aegan_lr/*/trials/df/*/last.pt")
    saved = torch.load(last, weights_only=True)["state"]["learner"]["images"]
    assert saved >= 1000 * reached > 0, "a checkpoint at the stop"
    assert process.returncode == 130
    assert "the same command resumes from here" in errors and "Traceback" not in errors
    wait_until(lambda: ours_alive(tmp_path) == [], 30)


@pytest.mark.slow
def test_a_second_launch_attaches_to_the_first(tmp_path):
    words = ("classes=[df]",)
    with subprocess.Popen(command(tmp_path, *words), stdout=subprocess.DEVNULL) as first:
        wait_until(lambda: any(locked(p) for p in tmp_path.glob("aegan_lr/*/launch.lock")))
        second = launch(tmp_path, *words)
        assert first.wait(timeout=60) == 0
    assert second.returncode == 0
    assert "attached" in second.stdout and "nothing left to do" in second.stdout


def test_an_attached_launch_says_which_settings_differ(tmp_path):
    run, out = RunFolder(tmp_path / "run"), io.StringIO()
    before = compose([*MICRO, "search.trials=2", f"results={tmp_path}"])
    asked = compose([*MICRO, "search.trials=5", f"results={tmp_path}"])
    save(before, run.settings)
    run.jobs.mkdir()

    def second() -> None:
        with attach(Console(file=out, width=240), run, asked):
            pass

    with ThreadPoolExecutor(1) as pool:
        with lock(run.path / "launch.lock"):
            waiting = pool.submit(second)
            wait_until(lambda: "search.trials" in out.getvalue())
        waiting.result(timeout=60)
    assert out.getvalue().count("search.trials=5 (was 2)") == 1
    assert "it runs with other settings; when it has ended, this launch goes on with" in out.getvalue()


def test_launches_wait_for_one_that_has_only_just_begun_and_then_go_one_after_the_other(tmp_path):
    run, inside, most = RunFolder(tmp_path / "run"), [], []

    def second(out: io.StringIO) -> None:
        with attach(Console(file=out), run):
            inside.append(out)
            most.append(len(inside))
            time.sleep(0.7)  # longer than an attempt to get the lock
            inside.remove(out)

    outs = [io.StringIO() for _ in range(3)]
    with ThreadPoolExecutor(len(outs)) as pool:
        with lock(run.path / "launch.lock"):  # and no settings there yet
            launches = [pool.submit(second, out) for out in outs]
            wait_until(lambda: all("attached" in out.getvalue() for out in outs))
            time.sleep(0.2)
            assert not any(launch.done() for launch in launches) and not most
        for waiting in launches:
            waiting.result(timeout=60)
    assert most == [1, 1, 1]


@pytest.mark.slow
def test_a_diverging_trial_is_recorded_and_the_others_go_on(tmp_path):
    space = "search.space.optim.lr_g={choice: [0.9]}"
    done = launch(
        tmp_path, "classes=[df]", space, "trial.optim.name=sgd", "search.space.optim.lr_d={choice: [0.9]}"
    )
    run = run_of(done.stdout)
    states = {json.loads(p.read_text())["state"] for p in run.glob("trials/df/0001-*/state.json")}
    assert states <= {"diverged", "completed", "pruned"}
    assert len(rows_of(run)) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trial.model.size=64", "data={store}"], "no images of size 64"),
        (["data=/nowhere"], "expected a store's folder"),
        (["classes=[dff]"], "unknown class dff"),
        (["search.trialz=1"], "did you mean search.trials?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(finished, tmp_path, words, says):
    results, *_ = finished
    store = next((results / "stores").glob("demo-*"))
    done = launch(tmp_path, *[w.format(store=store) for w in words])
    assert done.returncode == 2
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("aegan_lr/*/trials"))


def test_a_results_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    done = launch(blocked)
    assert done.returncode == 2
    assert "cannot write" in done.stderr and "Traceback" not in done.stderr
