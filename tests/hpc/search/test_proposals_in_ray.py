"""The real command with an adaptive sampler, through Submitit and Ray: killed, resumed, extended."""

import os
import signal
import subprocess

import pytest
from launches import command, drivers, launch, ours_alive, rows_of, run_of, wait_until

from hpc.plan.sweep_plan import proposals, reopen
from hpc.search.proposals import derived_again
from skin_gan.folders import RunFolder
from skin_gan.io import read_jsonl

pytest.importorskip("optuna")
WORDS = ("classes=[df]", "search.sampler=tpe", "search.startup=3", "operations.checkpoint_seconds=0")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", [(), ("backend=array", "search.scheduler=none", "search.round=2")])
def test_a_killed_search_goes_on_with_its_proposals_and_may_be_extended(tmp_path, backend):
    with subprocess.Popen(
        command(tmp_path, *WORDS, *backend, "search.trials=5"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        wait_until(lambda: any(tmp_path.glob("aegan_lr/*/trials/df/0003-*/state.json")), 300)
        if backend:
            process.kill()
        else:
            for pid in drivers(tmp_path):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=120)
    (path,) = tmp_path.glob("aegan_lr/*/trials/df/proposals.jsonl")
    before = read_jsonl(path)
    assert [row["sampler"] for row in before[:4]] == ["published", "sobol", "sobol", "tpe"]
    done = launch(tmp_path, *WORDS, *backend, "search.trials=6")
    assert done.returncode == 0
    run = RunFolder(run_of(done.stdout))
    rows, plan = read_jsonl(path), reopen(run)
    assert path == proposals(run, "df") and rows[: len(before)] == before
    assert [row["index"] for row in rows] == list(range(6)) == [spec.index for spec, _ in plan.trials("df")]
    assert {row["state"] for row in rows_of(run.path)} <= {"completed", "pruned"}
    assert sorted(row["trial"] for row in rows_of(run.path)) == [f.path.name for _, f in plan.trials("df")]
    assert [*path.parent.glob("0*")] and len([*path.parent.glob("0*")]) == 6
    for spec, folder in plan.trials("df"):
        rungs = [row["kimg"] for row in read_jsonl(folder.metrics)]
        assert rungs == [0.064, 0.192][: len(rungs)], "each rung once"
        if rows[spec.index]["sampler"] == "tpe":
            assert derived_again(plan, "df", rows, spec.index) == rows[spec.index]["values"]
    wait_until(lambda: ours_alive(tmp_path) == [], 30)
