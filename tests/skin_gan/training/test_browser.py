"""What a person sees in TensorBoard, in headless Chromium."""

import re
from dataclasses import replace

import pytest
from browser import open_page
from gan_samples import judge, open_session, spec
from tensorboard_server import Server

from skin_gan.folders import COMPLETED, RunFolder
from skin_gan.training.board import write_run

pytestmark = pytest.mark.browser


def test_tensorboard_shows_the_runs_of_the_arms(tmp_path):
    arms = ("real", "best+class_weights")
    for arm in arms:
        folder = tmp_path / "run" / "ablation" / "cnn" / arm / "fold-0" / "seed-0"
        write_run(folder, {"balanced_accuracy, test": 0.7}, [(10, 1.0), (20, 0.5)])
    server = Server(tmp_path / "run")
    try:
        server.wait_for(lambda s: len(s.get("plugin/timeseries/tags")["scalars"]["runTagInfo"]) == len(arms))
        page = open_page(f"http://127.0.0.1:{server.port}/#timeseries", tmp_path / "profile").stdout
    finally:
        server.process.kill()
    for shown in (*(f"ablation/cnn/{arm}/fold-0/seed-0" for arm in arms), "6 classifier"):
        assert re.search(rf">\s*{re.escape(shown)}\s*<", page), shown


def test_tensorboard_shows_each_trial_with_its_curves_and_grids(tmp_path):
    run = RunFolder(tmp_path / "aegan_lr")
    trials = [replace(spec("aegan", lr_g=n * 1e-4), index=n) for n in (1, 2)]
    names = []
    for trial in trials:
        folder = run.trial("df", trial.index, trial.id)
        session = open_session(folder.path, trial)
        session.advance(0.032, judge)
        session.finish(COMPLETED)
        session.close()
        names.append(f"trials/df/{folder.path.name}")
    server = Server(run.path)
    try:
        server.wait_for(lambda s: len(s.get("runs")) == 2)
        page = open_page(f"http://127.0.0.1:{server.port}/#timeseries", tmp_path / "profile").stdout
    finally:
        server.process.kill()
    for name in names:
        assert re.search(rf">\s*{name}\s*<", page), name
    sections = ("1 quality", "2 samples", "4 training", "5 other images")
    at = [page.index(f'title="{shown}"') for shown in sections]
    assert at == sorted(at)
    assert 'title="1 quality/KID x1000"' in page  # cards further down load later
