"""What a real TensorBoard server shows of a sweep's folder."""

import json
import shutil
from dataclasses import replace

import pytest
from gan_samples import BATCH, judge, open_session, spec
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard_server import Server

from skin_gan.folders import COMPLETED, DIVERGED, FAILED, PRUNED, RunFolder
from skin_gan.training.board import Board, write_run
from skin_gan.training.tags import tag_of, tag_of_sheet

KID_TAG, FLOOR_TAG, LOSS_TAG = "1 quality/KID x1000", "1 quality/KID x1000, floor", "4 training/loss_d"
SUCCESS, FAILURE, UNKNOWN = "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN"


def trial_folders(run: RunFolder) -> dict:
    """Trials that differ in one searched setting, one for each way to end."""
    endings = (COMPLETED, PRUNED, DIVERGED, FAILED, "running")
    trials = [replace(spec("aegan", lr_g=(n + 1) * 1e-4), index=n) for n in range(len(endings))]
    return {end: (t, run.trial("df", t.index, t.id)) for end, t in zip(endings, trials, strict=True)}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("results") / "aegan_lr")
    for end, (trial, folder) in trial_folders(run).items():
        session = open_session(folder.path, trial)
        session.advance(0.032, judge)
        early = folder.last.read_bytes()
        for _ in range(2 if end == COMPLETED else 0):  # killed after its last checkpoint, then resumed
            session.advance(0.064, judge)
            session.opened.close()
            folder.last.write_bytes(early)
            session = open_session(folder.path, trial)
            session.advance(0.064, judge)
        if end == PRUNED:
            folder.update(state=PRUNED, reason="not among the best")  # as the scheduler does
        elif end != "running":
            session.finish(end, "why it ended")
        if end == "running":
            session.board.flush()
        else:
            session.close()
    return run


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast loader", "classic loader"])
def server(sweep, request):
    server = Server(sweep.path, "--load_fast", request.param)
    try:
        server.wait_for(lambda s: len(s.session_groups()) == 5)
        yield server
    finally:
        server.process.terminate()
        server.process.wait()


def test_interruptions_leave_two_event_files_at_most_and_lose_no_record(tmp_path):
    for kimg in (0.016, 0.032, 0.048, 0.064):
        session = open_session(tmp_path, spec())
        session.advance(kimg, judge)
        session.close()
        files = sorted(tmp_path.glob("events.out.tfevents.*"))
        with open(files[-1], "ab") as file:  # a record that a kill has cut
            file.write(files[-1].read_bytes()[:30])
    assert len(files) == 2
    log = EventAccumulator(str(tmp_path), {"scalars": 0, "images": 0}).Reload()
    evaluated = [16, 32, 48, 64]
    assert (
        [x.step for x in log.Scalars(KID_TAG)]
        == [x.step for x in log.Images("2 samples/samples")]
        == evaluated
    )
    assert [x.step for x in log.Scalars(LOSS_TAG)] == list(range(BATCH, 65, BATCH))


def name_of(sweep: RunFolder, end: str) -> str:
    return str(trial_folders(sweep)[end][1].path.relative_to(sweep.path))


def test_every_trial_has_its_row_with_settings_and_metrics_however_it_ended(sweep, server):
    rows = {group["sessions"][0]["name"]: group for group in server.session_groups()}
    expected = {COMPLETED: SUCCESS, PRUNED: SUCCESS, DIVERGED: FAILURE, FAILED: FAILURE, "running": UNKNOWN}
    for end, (trial, folder) in trial_folders(sweep).items():
        row = rows[name_of(sweep, end)]
        assert row["sessions"][0].get("status", UNKNOWN) == expected[end], end
        assert row["hparams"]["optim.lr_g"] == trial.settings.optim.lr_g
        assert row["hparams"]["model.family"] == "aegan"
        metrics = {m["name"]["tag"]: m["value"] for m in row["metricValues"]}
        recorded = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
        assert metrics[KID_TAG] == pytest.approx(recorded[-1]["kid"])
        assert metrics[FLOOR_TAG] == 1.0
    assert len(rows) == 5


def test_the_table_has_a_column_for_the_searched_setting(server):
    experiment = server.get("plugin/hparams/experiment", request=json.dumps({"includeMetrics": True}))
    differing = {info["name"] for info in experiment["hparamInfos"] if info.get("differs")}
    assert {"optim.lr_g", "index"} == differing
    assert {KID_TAG, FLOOR_TAG} <= {info["name"]["tag"] for info in experiment["metricInfos"]}


def test_curves_grids_and_readable_run_names(sweep, server):
    tags = server.get("plugin/scalars/tags")
    runs = {name_of(sweep, end) for end in trial_folders(sweep)}
    assert set(tags) == runs
    assert all(name.startswith("trials/df/000") for name in runs)
    for name in ("loss_d", "loss_g", "d_real", "d_fake", "grad_d", "grad_g", "images_per_second"):
        assert all(f"4 training/{name}" in tags[run] for run in runs)
    grids = server.get("plugin/images/tags")
    assert all(
        {"2 samples/samples", "5 other images/interpolation", "5 other images/reconstruction"}
        <= set(grids[run])
        for run in runs
    )


def test_a_resumed_trial_has_one_unbroken_curve(sweep, server):
    run = name_of(sweep, COMPLETED)
    server.wait_for(lambda s: len(s.values(run, LOSS_TAG)) >= 64 // BATCH)
    steps = range(BATCH, 64 + 1, BATCH)  # a checkpoint at each, which the scalars go with
    assert [step for step, _ in server.values(run, LOSS_TAG)] == [*steps]
    steps = [step for step, _ in server.values(run, KID_TAG)]
    assert sorted(set(steps)) == steps


def test_what_is_no_finite_number_is_left_out_of_the_curves(tmp_path):
    board = Board(tmp_path, spec(), images=0)
    board.scalars({"a": 1.0, "b": None, "c": "text", "d": float("nan"), "e": 2}, 5)
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["scalars"]) == ["a", "e"]


def test_sections_come_in_the_order_of_what_matters_and_constants_have_no_curve():
    names = ("fd", "kid", "kid_floor", "coverage", "fd_floor", "n_real", "size", "loss_d", "overfit")
    tags = {name: tag_of(name) for name in names}
    assert {name for name, tag in tags.items() if not tag} == {"fd_floor", "n_real", "size", "loss_d"}
    shown = [*filter(None, tags.values()), *map(tag_of_sheet, ("interpolation", "samples"))]
    assert sorted(shown) == [
        KID_TAG, FLOOR_TAG, "1 quality/coverage", "2 samples/samples", "3 other scores/fd",
        "4 training/overfit", "5 other images/interpolation",
    ]  # fmt: skip


def test_a_classifier_run_has_curves_and_no_row_and_written_again_it_is_replaced(sweep, tmp_path):
    shutil.copytree(sweep.path / "trials", tmp_path / "trials")
    folder = tmp_path / "ablation" / "head" / "real" / "fold-0" / "seed-1"
    for accuracy in (0.1, 0.6):
        metrics = {"balanced_accuracy, test": accuracy, "ece, val": float("nan")}
        write_run(folder, metrics, [(10, 2.0), (20, accuracy)])
    assert len(list(folder.iterdir())) == 1
    name = "ablation/head/real/fold-0/seed-1"
    server = Server(tmp_path)
    try:
        server.wait_for(lambda s: name in s.get("plugin/scalars/tags") and len(s.session_groups()) == 5)
        rows, tags = server.session_groups(), server.get("plugin/scalars/tags")
        curve = server.values(name, "6 classifier/loss")
    finally:
        server.process.terminate()
        server.process.wait()
    assert curve == [(10, 2.0), (20, pytest.approx(0.6))]
    assert tags[name].keys() == {"6 classifier/loss", "6 classifier/balanced_accuracy, test"}
    assert all(row["sessions"][0]["name"].startswith("trials/df/") for row in rows)
