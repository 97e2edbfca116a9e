"""Prepare computes what later stages read, and a job that waits for another's work says so."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time

import numpy as np
import pytest
from plans import launched

from hpc.cli.progress import job_progress, line, table
from hpc.plan.sweep_plan import SEARCH
from hpc.search.runner import Runner
from hpc.slurm import client
from hpc.slurm.job_states import queued_state
from hpc.stages.inputs import Inputs
from hpc.state.records import Pace, record
from hpc.state.snapshot import snapshot
from hpc.state.submissions import Submission
from skin_gan.data.resolve import resolve
from skin_gan.io import holder, lock, read_json
from skin_gan.metrics.cache import FeatureCache, cached_record

HEAD = "ablate.classifiers.head={arms: [real], seeds: 1, steps: 10}"
CONFIDENCE = "ablate.classifiers.cnn={arms: [real, best], seeds: 1, steps: 10, filters: [confidence]}"


class Counting:
    """Features [N,2] of images, and how many were asked for."""

    name, weights_sha, dimensions = "Counting", "counting", 2

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, images: np.ndarray, progress: object = None) -> np.ndarray:
        self.asked += len(images)
        return np.zeros((len(images), 2), np.float32)


def test_prepare_computes_the_features_that_later_stages_read(tmp_path, monkeypatch):
    for seed, settings in enumerate(([], [HEAD], [CONFIDENCE])):
        plan = launched(tmp_path, f"seed={seed}", *settings)
        resolve(plan.experiment.data, [32], tmp_path)
        monkeypatch.setattr(Inputs, "extractor", Counting())
        monkeypatch.setattr(Inputs, "second", None)
        told: list[tuple[int, int]] = []
        inputs = Inputs(plan)
        inputs.warm(lambda done, total, told=told: told.append((done, total)))
        cache = FeatureCache(inputs.store, 32, inputs.cache, inputs.extractor)
        there = {label for label in inputs.store.classes if cache.has(label)}
        assert "df" in there and (there == set(inputs.store.classes) or not settings)
        computed = sum(inputs.store.counts[label] for label in there)
        assert told[-1] == (computed, computed) and Inputs.extractor.asked == computed
        told.clear()
        inputs.warm(lambda done, total, told=told: told.append((done, total)))
        assert not told and Inputs.extractor.asked == computed
        shutil.rmtree(inputs.cache)


def test_a_job_that_waits_for_another_says_for_what_and_for_whom(tmp_path, capsys):
    plan = launched(tmp_path, "cluster=local")
    begun, go_on = threading.Event(), threading.Event()

    def other() -> None:
        holder.set("generate-nv-fold-0")  # this thread's own
        cached_record(tmp_path, ("copies", "abc", "df"), lambda: begun.set() or (go_on.wait(60) and {"x": 1}))

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait(60)
    path = plan.run.jobs / f"{SEARCH}-df.json"

    def let_go() -> None:
        while "waiting" not in (read_json(path) or {}):
            time.sleep(0.01)
        seen.append((read_json(path)["waiting"], snapshot(plan.run)))
        go_on.set()

    seen: list = []
    watcher = threading.Thread(target=let_go)
    watcher.start()
    with record(plan.run, f"{SEARCH}-df"):
        assert cached_record(tmp_path, ("copies", "abc", "df"), dict) == {"x": 1}
        assert read_json(path)["waiting"] == ""
    watcher.join()
    thread.join()
    (said, s) = seen[0]
    me = f"process {os.getpid()} on {socket.gethostname()}"
    assert said == f"waiting for copies-abc-df, computed by generate-nv-fold-0 ({me})"
    assert said in [*table(s).columns[-1].cells]
    assert not capsys.readouterr().err  # outside of jobs it would be printed
    queued = client.Queued("7", client.RUNNING, "None", "1:00", 0, "n1", "", "")
    for own, why in (("7", said), ("6", "")):
        assert queued_state(Submission("search-df", "7"), queued, {"slurm": own, "waiting": said}).why == why


def test_outside_of_jobs_a_wait_is_printed(tmp_path, capsys):
    with lock(tmp_path / "lock", what="the same"):
        thread = threading.Timer(0.3, lambda: None)
        thread.start()
        with lock(tmp_path / "lock", wait=0.5, what="the features of df") as held:
            assert held is None
    assert "waiting for the features of df, computed by process" in capsys.readouterr().err


def test_a_trial_that_waits_says_so_in_its_state(tmp_path, monkeypatch):
    plan = launched(tmp_path)
    runner = Runner(plan, "df")
    runner.open(1)

    class Session:
        main = True

        def advance(self, *_: object, **__: object) -> dict:
            with lock(tmp_path / "l", what="x"), lock(tmp_path / "l", wait=0.3, what="floors of df"):
                seen.append(runner.folder.state()["waiting"])
            return {"kid": 1.0}

    seen: list[str] = []
    monkeypatch.setattr(Runner, "session", Session())
    monkeypatch.setattr(Runner, "judge", None)
    runner.step()
    assert seen[0].startswith("waiting for floors of df, computed by process")


def test_the_time_left_follows_the_pace_since_the_first_report(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace()
    assert pace.left(40, 100) is None  # what was there before costs no time
    now = 110.0
    assert pace.left(60, 100) == pytest.approx(20.0)  # 20 in 10 s, 40 to go
    assert pace.left(0, 5) is None  # other work
    now = 112.0
    assert pace.left(1, 5) == pytest.approx(8.0)
    assert job_progress({"done": 60, "total": 100, "left": 20.0}) == " 60/100 (left about 20 s)"
    assert job_progress({"done": 40, "total": 100, "left": None}) == " 40/100"


def test_every_stage_shows_how_much_is_done_and_how_long_the_rest_takes(tmp_path, monkeypatch):
    plan = launched(tmp_path, HEAD)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with record(plan.run, "prepare") as tell:
        for done in (100, 200, 300):
            tell(done=done, total=1000)
            clock[0] += 10.0
        said = line(snapshot(plan.run), None)
    assert "features of real images 300/1000 (left about 1 min 10 s)" in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_takes_no_lock_away(tmp_path, monkeypatch):
    full = os.open("/dev/full", os.O_WRONLY)
    write = os.write
    monkeypatch.setattr(os, "write", lambda _, content: write(full, content))  # "No space left on device"
    with lock(tmp_path / "lock", what="features") as held:
        assert held is not None
    os.close(full)
