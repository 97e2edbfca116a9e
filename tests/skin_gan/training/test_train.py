"""Training: interrupted anywhere it ends the same; nothing is measured twice; what diverges says so."""

import itertools
import json
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gan_samples import BATCH, EVALUATION, OPS, judge, open_session, same, spec, split
from places import SUPPORT

from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, DIVERGED, RUNNING, TrialFolder
from skin_gan.io import read_jsonl
from skin_gan.training import checkpoint, grids, meter
from skin_gan.training.session import SHEETS, Diverged, Session
from skin_gan.training.watch import best_of, overfitting

FAMILIES = ["dcgan", "aegan"]


class Killed(BaseException):
    """Stands for a process's end at some instant."""


def die_after(session: Session, steps: int) -> None:
    step, count = session.learner.step, itertools.count(1)

    def counting():
        if next(count) > steps:
            raise Killed
        return step()

    session.learner.step = counting


def weights(folder: Path, trial) -> dict:
    return checkpoint.load(folder / "last.pt", trial.id)["learner"]


def rows(folder: Path) -> list[dict]:
    times = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in times} for row in read_jsonl(folder / "metrics.jsonl")]


def run(folder: Path, trial, *kimgs: float) -> None:
    session = open_session(folder, trial)
    for kimg in kimgs:
        session.advance(kimg, judge)
    session.close()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_interrupted_training_equals_uninterrupted_bit_for_bit(tmp_path, family, precision):
    trial = spec(family, precision, d_steps=2)
    run(tmp_path / "whole", trial, 0.096, 0.16)
    for steps in (0, 3, 5, 99):
        session = open_session(tmp_path / "cut", trial)
        die_after(session, steps)
        with suppress(Killed):
            session.advance(0.096, judge)
            session.advance(0.16, judge)
        session.opened.close()  # as the kernel frees a killed process's lock
    assert same(weights(tmp_path / "cut", trial), weights(tmp_path / "whole", trial))
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert [row["images"] for row in rows(tmp_path / "cut")] == [96, 160]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_step_keeps_survives_interruptions_bit_for_bit(tmp_path, family):
    """Moving averages of logits, and when a lazy penalty is due."""
    trial = spec(family)
    loss = replace(trial.settings.loss, r1=0.5, gp=0.1, lecam=0.3, lazy=3)
    trial = replace(trial, settings=replace(trial.settings, loss=loss))
    run(tmp_path / "whole", trial, 0.12)
    for steps in (4, 4, 99):
        session = open_session(tmp_path / "cut", trial)
        die_after(session, steps)
        with suppress(Killed):
            session.advance(0.12, judge)
        session.opened.close()
    cut, whole = (weights(tmp_path / name, trial) for name in ("cut", "whole"))
    assert same(cut, whole) and rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert cut["step"]["logits"].abs().sum() > 0
    assert rows(tmp_path / "cut")[0]["penalty"] > 0


def test_a_checkpoint_of_the_version_before_is_continued(tmp_path):
    """It has no state of the step."""
    run(tmp_path / "old", spec(), 0.032)
    path = tmp_path / "old" / "last.pt"
    state = checkpoint.load(path, spec().id)
    del state["learner"]["step"]
    checkpoint.save(path, spec().id, state)
    run(tmp_path / "old", spec(), 0.064)
    run(tmp_path / "new", spec(), 0.032, 0.064)
    assert same(weights(tmp_path / "old", spec()), weights(tmp_path / "new", spec()))


def test_a_process_killed_for_good_loses_at_most_what_it_did_since_its_last_checkpoint(tmp_path):
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(SUPPORT)!r})
        from pathlib import Path
        from gan_samples import judge, open_session, spec
        session = open_session(Path({str(tmp_path / "cut")!r}), spec("aegan"))
        session.advance(1000.0, judge)
    """)
    last = tmp_path / "cut" / "last.pt"
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 120
        while not last.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    trial = spec("aegan")
    reached = weights(tmp_path / "cut", trial)["images"]
    goal = reached / 1000 + 0.064
    run(tmp_path / "cut", trial, goal)
    run(tmp_path / "whole", trial, goal)
    assert same(weights(tmp_path / "cut", trial), weights(tmp_path / "whole", trial))


def test_a_trials_folder_has_as_many_files_however_long_it_trains(tmp_path):
    """Its sheets are thinned evenly; the first and the last stay."""
    session = open_session(tmp_path / "trial", spec())
    for kimg in (0.008, 0.016, 0.024, 0.032, 0.04, 0.048, 0.056):
        session.advance(kimg, judge)
    session.close()
    names = [path.name for path in (tmp_path / "trial" / "samples").iterdir()]
    assert len(names) == 2 * SHEETS and {"0000.008-samples.png", "0000.056-samples.png"} <= set(names)
    assert len(rows(tmp_path / "trial")) == 7

    lengths = range(12, 325, 12)
    for kimg in lengths:
        for name in ("samples", "interpolation"):
            (tmp_path / f"{kimg:08.3f}-{name}.png").touch()
        grids.thin(tmp_path, SHEETS)
    kept = sorted({float(path.name.split("-")[0]) for path in tmp_path.glob("*.png")})
    assert len(list(tmp_path.glob("*.png"))) == 2 * len(kept) == 2 * SHEETS
    assert (kept[0], kept[-1]) == (12, 324)
    assert max(b - a for a, b in itertools.pairwise(kept)) <= 2 * 324 / (SHEETS - 1)


def interrupt(session: Session, number: int, step: int) -> None:
    """The signal comes in the middle of a step, counted from 1."""
    context, count = session.learner.context, itertools.count(1)
    draw = context.draw

    def drawing():
        if next(count) == step:
            signal.raise_signal(number)
        return draw()

    context.draw = drawing


@contextmanager
def handled(number, handler):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def refuse(*_):
    raise Killed


NEVER_BY_ITSELF = {"log_kimg": 1000.0, "checkpoint_seconds": 1e9}


@pytest.mark.parametrize(
    ("number", "handler", "raised"),
    [
        (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
        (signal.SIGTERM, refuse, Killed),  # a job that ends itself
        (signal.SIGUSR2, refuse, Killed),  # Submitit's, which requeues
    ],
)
def test_asked_to_stop_it_ends_the_step_saves_and_obeys(tmp_path, number, handler, raised):
    trial = spec("aegan", d_steps=2)
    session = open_session(tmp_path / "cut", trial, **NEVER_BY_ITSELF)
    interrupt(session, number, step=6)  # the second discriminator update of the third step
    with handled(number, handler), pytest.raises(raised):
        session.advance(0.16, judge)
    session.opened.close()
    assert weights(tmp_path / "cut", trial)["images"] == 48
    run(tmp_path / "cut", trial, 0.16)
    run(tmp_path / "whole", trial, 0.16)
    assert same(weights(tmp_path / "cut", trial), weights(tmp_path / "whole", trial))
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_warning_that_nobody_acts_on_makes_a_checkpoint_and_training_goes_on(tmp_path):
    session = open_session(tmp_path, **NEVER_BY_ITSELF)
    interrupt(session, signal.SIGUSR2, step=2)
    saved, save = [], session.save
    session.save = lambda: saved.append(session.learner.images) or save()
    with handled(signal.SIGUSR2, signal.SIG_IGN):
        session.train(0.04)
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
    session.close()
    assert saved == [16, 40]


def test_asked_to_stop_with_numbers_that_are_not_finite_it_saves_none_of_them(tmp_path):
    run(tmp_path, spec(), 0.032)
    session = open_session(tmp_path, **NEVER_BY_ITSELF)
    interrupt(session, signal.SIGINT, step=1)
    with torch.no_grad():
        next(session.learner.plain["generator"].parameters()).fill_(float("nan"))
    with pytest.raises(KeyboardInterrupt) as e:
        session.train(0.064)
    assert isinstance(e.value.__context__, Diverged)
    session.close()
    assert weights(tmp_path, spec())["images"] == 32


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    session = open_session(tmp_path, **NEVER_BY_ITSELF)

    def step():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")

    session.learner.step = step
    with handled(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        session.train(0.064)
    session.close()
    assert not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize("seconds_per_step", [7.0, 61.0])
def test_a_checkpoint_is_never_older_than_allowed_however_slow_the_training(
    tmp_path, monkeypatch, seconds_per_step
):
    """8 images in 7 or 61 seconds, scalars for each 1,000: work of at most 60 s and a step can be lost."""
    session = open_session(tmp_path, log_kimg=1.0, checkpoint_seconds=60.0)
    now, saved, step, save = [0.0], [0.0], session.learner.step, session.save
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])

    def slow():
        assert now[0] - saved[-1] <= 60.0
        now[0] += seconds_per_step
        return step()

    session.learner.step = slow
    session.save = lambda: saved.append(now[0]) or save()
    session.train(0.24)
    session.close()
    assert len(saved) >= 30 * seconds_per_step // 67


def test_evaluating_does_not_change_the_training(tmp_path):
    trial = spec("aegan")
    run(tmp_path / "often", trial, 0.032, 0.064, 0.096, 0.128)
    run(tmp_path / "once", trial, 0.128)
    assert same(weights(tmp_path / "often", trial), weights(tmp_path / "once", trial))
    assert rows(tmp_path / "often")[-1]["kid"] == rows(tmp_path / "once")[-1]["kid"]


def unwanted(images):
    raise AssertionError("measured again")


def test_what_was_measured_is_returned_without_work(tmp_path):
    run(tmp_path, spec(), 0.032, 0.064)
    before = (tmp_path / "last.pt").stat().st_mtime_ns
    session = open_session(tmp_path)
    die_after(session, 0)
    assert session.advance(0.032, unwanted) == read_jsonl(tmp_path / "metrics.jsonl")[0]
    assert session.advance(0.064, unwanted) == read_jsonl(tmp_path / "metrics.jsonl")[1]
    session.close()
    assert (tmp_path / "last.pt").stat().st_mtime_ns == before


def test_killed_between_checkpoint_and_measurement_it_measures_without_training(tmp_path):
    def killed(images):
        raise Killed

    session = open_session(tmp_path)
    with pytest.raises(Killed):
        session.advance(0.032, killed)
    session.opened.close()
    session = open_session(tmp_path)
    die_after(session, 0)
    assert session.advance(0.032, judge)["images"] == 32
    session.close()
    assert len(rows(tmp_path)) == 1


def test_rows_beyond_the_checkpoint_are_kept_and_not_written_twice(tmp_path):
    run(tmp_path, spec(), 0.032)
    early = (tmp_path / "last.pt").read_bytes()
    run(tmp_path, spec(), 0.064)
    (tmp_path / "last.pt").write_bytes(early)
    recorded = read_jsonl(tmp_path / "metrics.jsonl")
    session = open_session(tmp_path)
    assert session.advance(0.064, unwanted) == recorded[1]
    session.close()
    assert read_jsonl(tmp_path / "metrics.jsonl") == recorded


def test_a_metrics_line_cut_by_a_kill_is_measured_again(tmp_path):
    run(tmp_path, spec(), 0.032)
    metrics = tmp_path / "metrics.jsonl"
    whole = rows(tmp_path)
    metrics.write_bytes(metrics.read_bytes()[:-20])
    run(tmp_path, spec(), 0.032)
    assert rows(tmp_path) == whole


@pytest.mark.parametrize(
    ("kimg", "d_steps", "images"), [(0.1, 1, 104), (0.104, 1, 104), (0.1, 3, 120), (0.1, 5, 120)]
)
def test_training_stops_at_the_first_step_at_or_beyond_its_target(tmp_path, kimg, d_steps, images):
    session = open_session(tmp_path, spec(d_steps=d_steps))
    row = session.advance(kimg, judge)
    session.close()
    assert (row["images"], row["kimg"]) == (images, images / 1000)


def test_it_is_measured_at_multiples_between_rungs_too(tmp_path):
    session = Session(spec(), TrialFolder(tmp_path), split(), OPS, replace(EVALUATION, every_kimg=0.03))
    session.advance(0.1, judge)
    session.advance(0.12, judge)
    session.close()
    assert [row["images"] for row in rows(tmp_path)] == [32, 64, 96, 104, 120]


def test_the_best_is_kept_beside_the_last_by_lowest_finite_kid(tmp_path):
    session = open_session(tmp_path)
    for n, kid in enumerate([5.0, None, 3.0, 4.0], start=1):
        session.advance(n * 0.016, lambda images, kid=kid: {"kid": kid, "note": ""})
        expected = {1: 16, 2: 16, 3: 48, 4: 48}[n]
        best = checkpoint.load(tmp_path / "best.pt", spec().id)
        assert (best["learner"]["images"], best["best"]["images"]) == (expected, expected)
    session.close()
    state = TrialFolder(tmp_path).state()
    assert (state["kid"], state["best_kid"], state["best_kimg"]) == (4.0, 3.0, 0.048)


@pytest.mark.parametrize(
    ("kids_and_coverages", "best"),
    [
        ([(50, 0.6), (40, 0.6), (45, 0.6)], 1),
        ([(50, 0.6), (40, 0.29), (45, 0.6)], 2),  # a collapse has the lowest KID
        ([(50, 0.6), (40, 0.30)], 1),  # half is enough
        ([(40, 0.2), (60, 0.5), (50, 0.4)], 2),  # the first one is a collapse as soon as the second is there
        ([(40, 0.2), (30, 0.3), (60, 0.5)], 1),
        ([(40, 0.2), (50, 0.3), (60, 0.5)], 2),  # what the one in between was is gone
        ([(40, None), (30, None)], 1),
        ([(None, None), (40, 0.1)], 1),
    ],
)
def test_the_best_has_the_lowest_kid_of_those_with_half_of_the_best_coverage(
    tmp_path, kids_and_coverages, best
):
    session = open_session(tmp_path)
    for n, (kid, coverage) in enumerate(kids_and_coverages, start=1):
        measured = {"kid": kid, "coverage": coverage, "note": ""}
        session.advance(n * 0.016, lambda images, row=measured: row)
    session.close()
    kept = checkpoint.load(tmp_path / "best.pt", spec().id)["learner"]["images"]
    assert kept == 16 * (best + 1) == session.best["images"]


def test_rows_of_versions_that_went_by_kid_alone_still_name_the_checkpoint_they_kept():
    former = [{"kid": 40.0, "coverage": 0.2}, {"kid": 60.0, "coverage": 0.5}]
    assert best_of(former) is former[0]
    assert best_of([]) is None and best_of([{"kid": None}]) is None
    later = {"kid": 70.0, "coverage": 0.5, "overfit": None}
    assert best_of([*former, later]) is later


class MeanBrightness(torch.nn.Module):
    """A discriminator whose logits, two patches each, average to a x + b of the mean x of an image."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Parameter(torch.tensor(a)), torch.nn.Parameter(torch.tensor(b))

    def forward(self, images):
        logit = self.a * images.mean((1, 2, 3)) + self.b
        return torch.stack([logit - 1, logit + 1], dim=1)


def grey(level: int, n: int) -> torch.Tensor:
    return torch.full((n, 3, 4, 4), level, dtype=torch.uint8)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (7.0, -3.0)])
def test_overfitting_is_how_far_unseen_images_lie_from_seen_to_generated_ones(a, b):
    net = MeanBrightness(a, b).train()
    row = overfitting(net, grey(255, 40), grey(204, 7), grey(0, 20), batch=8)
    assert row["d_train"] == pytest.approx(a * 1.0 + b) and row["d_val"] == pytest.approx(a * 0.6 + b)
    assert row["overfit"] == pytest.approx((1 - 0.6) / (1 - -1))  # whatever a and b
    assert net.training
    assert overfitting(net, grey(0, 9), grey(0, 9), grey(255, 9), 4)["overfit"] is None  # it tells nothing
    assert overfitting(None, grey(0, 9), grey(0, 9), grey(255, 9), 4) == dict.fromkeys(row)


def test_every_evaluation_watches_the_discriminator(tmp_path):
    session = open_session(tmp_path)
    row = session.advance(0.016, judge)
    net = session.learner.plain["discriminator"].eval()
    with torch.no_grad():
        found = [net(torch.from_numpy(p.images) / 127.5 - 1).mean() for p in (split().train, split().val)]
    assert [row["d_train"], row["d_val"]] == pytest.approx([float(x) for x in found], abs=1e-5)
    assert rows(tmp_path)[0]["overfit"] == row["overfit"]
    session.close()


def test_a_row_averages_the_losses_since_the_row_before(tmp_path):
    session = open_session(tmp_path)
    step, seen = session.learner.step, []
    session.learner.step = lambda: seen.append(step()) or seen[-1]
    session.advance(0.04, judge)
    row = session.advance(0.12, judge)
    session.close()
    assert len(seen) == 15
    for name in ("loss_d", "loss_g", "d_real", "d_fake", "grad_d", "grad_g"):
        assert row[name] == pytest.approx(sum(float(s[name]) for s in seen[5:]) / 10)


def test_speed_does_not_count_the_time_of_measuring(tmp_path):
    start = time.perf_counter()
    session = open_session(tmp_path)
    first = session.advance(0.032, lambda images: time.sleep(1.0) or judge(images))
    second = session.advance(0.064, judge)
    session.close()
    assert second["seconds"] < time.perf_counter() - start - 1.0
    trained = second["seconds"] - first["seconds"]
    assert second["images_per_second"] == pytest.approx(32 / trained, rel=0.05)


def test_a_loss_that_is_not_finite_ends_the_trial_with_the_reason(tmp_path):
    trial = spec("aegan", norm="none", name="sgd", lr_g=0.99, lr_d=0.99, beta1=0.9)
    session = open_session(tmp_path, trial)
    with pytest.raises(Diverged, match=r"(loss|grad|reconstruction)_\w+.* not finite at \d\.\d+ kimg"):
        session.advance(2.0, unwanted)
    session.close()
    state = TrialFolder(tmp_path).state()
    assert state["state"] == DIVERGED
    assert "not finite at" in state["reason"]
    last = weights(tmp_path, trial)
    assert 0 < last["images"] < session.meter.images
    assert all(w.isfinite().all() for net in last["nets"].values() for w in net.values())


def test_bad_weights_are_neither_saved_nor_measured(tmp_path):
    run(tmp_path, spec(), 0.032)
    session = open_session(tmp_path)
    with torch.no_grad():
        next(session.learner.ema.net.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match="a weight not finite"):
        session.advance(0.048, unwanted)
    session.close()
    assert weights(tmp_path, spec())["images"] == 32
    assert len(rows(tmp_path)) == 1


def test_a_trial_is_trained_by_one_process_at_a_time(tmp_path):
    first = open_session(tmp_path)
    with pytest.raises(SkinGanError, match="another process trains"):
        open_session(tmp_path)
    first.close()
    open_session(tmp_path).close()


def test_a_folder_of_other_settings_is_refused_and_left_as_it_is(tmp_path):
    run(tmp_path, spec(), 0.016)
    before = (tmp_path / "trial.yaml").read_text()
    with pytest.raises(SkinGanError, match="belongs to trial"):
        open_session(tmp_path, spec(lr_g=1e-3))
    assert (tmp_path / "trial.yaml").read_text() == before


def test_images_of_another_size_class_or_fold_are_refused(tmp_path):
    for change in ({"size": 32}, {"label": "nv"}, {"fold": 1}):
        with pytest.raises(SkinGanError, match="the images given are of"):
            Session(spec(), TrialFolder(tmp_path), replace(split(), **change), OPS, EVALUATION)


def test_a_damaged_checkpoint_stops_before_anything_is_changed(tmp_path):
    run(tmp_path, spec(), 0.016)
    cut = (tmp_path / "last.pt").read_bytes()[:-100]
    (tmp_path / "last.pt").write_bytes(cut)
    with pytest.raises(SkinGanError, match=r"last\.pt is cut or damaged"):
        open_session(tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == cut
    (tmp_path / "last.pt").rename(tmp_path / "away.pt")
    run(tmp_path, spec(), 0.016)
    assert len(rows(tmp_path)) == 1


def test_sessions_of_both_precisions_follow_each_other_quickly_in_one_process(tmp_path):
    took = []
    for n, precision in enumerate(["fp32", "bf16", "bf16", "fp32", "bf16"]):
        start = time.monotonic()
        session = open_session(tmp_path / str(n), spec(precision=precision))
        took.append(time.monotonic() - start)
        assert session.accelerator.mixed_precision == {"fp32": "no", "bf16": "bf16"}[precision]
        session.train(0.016)
        tensors = session.learner.state_dict()["nets"]["generator"].values()
        assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float32}
        session.close()
    assert min(took[1:]) < 1.0  # the quickest: others may be using this machine


def test_progress_is_written_every_two_seconds_at_most(tmp_path, monkeypatch):
    written = []
    update = TrialFolder.update
    monkeypatch.setattr(TrialFolder, "update", lambda *a, **k: written.append(k) or update(*a, **k))
    session = open_session(tmp_path, log_kimg=0.1, checkpoint_seconds=60.0)
    start = time.monotonic()
    session.train(0.8)
    assert 1 <= len(written) <= 2 + (time.monotonic() - start) / 2
    assert written[0]["state"] == RUNNING
    session.advance(0.9, judge, target=36.0)
    session.finish(COMPLETED)
    session.close()
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["state"], state["target"], state["kimg"]) == (COMPLETED, 36.0, 0.904)
    assert state["images_per_second"] > BATCH


def test_devices_that_are_not_there_are_named(tmp_path):
    with pytest.raises(SkinGanError, match="choose one of auto, cpu, cuda"):
        open_session(tmp_path, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(SkinGanError, match="no GPU"):
            open_session(tmp_path, device="cuda")
