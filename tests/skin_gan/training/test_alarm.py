"""Collapse and copies in several evaluations in a row: a flag on the trial, or its early end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gan_samples import EVALUATION, OPS, judge, same, spec, split
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from skin_gan.config import EvalSettings
from skin_gan.folders import ALARMED, RUNNING, TrialFolder
from skin_gan.training import checkpoint
from skin_gan.training.session import Session, Stopped
from skin_gan.training.watch import alarm

S = EvalSettings(max_collapse=0.5, max_copies=0.1, alarm_after=2)


@pytest.mark.parametrize(
    ("collapse", "copies", "said"),
    [
        ([0.4, 0.6, 0.7], [0, 0, 0], "collapse of 0.7 at 3 kimg, above 0.5 in 2 evaluations in a row"),
        ([0.9, 0.9, 0.5], [0, 0, 0], ""),  # it has recovered
        ([0.9], [0.9], ""),
        ([0.6, 0.4], [0.0, 0.2], ""),  # one after the other, neither of them twice
        ([None, 0.9], [None, None], ""),
        ([0, 0], [0.25, 0.125], "copies of 0.125 at 2 kimg, above 0.1 in 2 evaluations in a row"),
        ([0.9, 0.9], [0.5, 0.5], "collapse of 0.9 at 2 kimg, above 0.5 in 2 evaluations in a row and copies "
                                 "of 0.5 at 2 kimg, above 0.1 in 2 evaluations in a row"),
    ],
)  # fmt: skip
def test_an_alarm_needs_one_limit_to_be_exceeded_in_each_of_the_last_evaluations(collapse, copies, said):
    pairs = enumerate(zip(collapse, copies, strict=True), 1)
    assert alarm([{"kimg": k, "collapse": a, "copies": b} for k, (a, b) in pairs], S) == said


def session(folder, stop: bool) -> Session:
    evaluation = replace(EVALUATION, every_kimg=0.016, alarm_after=2, stop_on_alarm=stop)
    return Session(spec(), TrialFolder(folder), split(), OPS, evaluation)


def collapsed(images):
    squares = {"checkerboard": 1.5, "checkerboard_low": 0.75, "checkerboard_high": 1.25}
    return {**judge(images), "collapse": 0.9, **squares}


def test_a_trial_is_flagged_and_trained_on(tmp_path):
    one = session(tmp_path, stop=False)
    one.advance(0.016, collapsed)
    assert one.folder.state()["alarm"] == ""
    one.advance(0.064, collapsed)
    state = one.folder.state()
    assert state["state"] == RUNNING and state["kimg"] == 0.064
    assert state["alarm"] == "collapse of 0.9 at 0.064 kimg, above 0.8 in 2 evaluations in a row"
    one.advance(0.08, judge)
    assert one.folder.state()["alarm"] == ""
    one.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [e.step for e in events.Tensors("alarm/text_summary")] == [32, 48, 64]
    (_, *_, said) = events.Tensors("checkerboard/text_summary")
    assert said.tensor_proto.string_val == [b"1.50, above the interval of real images, 0.75 to 1.25"]


def test_an_alarm_ends_a_trial_that_can_be_trained_on_as_if_it_had_not(tmp_path):
    one = session(tmp_path / "stopped", stop=True)
    with pytest.raises(Stopped, match=r"collapse of 0\.9 at 0\.032 kimg"):
        one.advance(0.064, collapsed)
    one.close()
    folder = TrialFolder(tmp_path / "stopped")
    state = folder.state()
    assert state["state"] == ALARMED and state["kimg"] == 0.032
    assert state["reason"] == state["alarm"] and "above 0.8 in 2 evaluations" in state["reason"]
    assert folder.best.exists()
    again = session(tmp_path / "stopped", stop=True)
    with pytest.raises(Stopped):
        again.advance(0.064, collapsed)
    assert again.kimg == 0.032  # it was not trained
    again.close()
    for name, stop in (("stopped", False), ("whole", False)):
        other = session(tmp_path / name, stop=stop)
        other.advance(0.064, collapsed)
        other.close()
    ends = [
        checkpoint.load(tmp_path / name / "last.pt", spec().id)["learner"] for name in ("stopped", "whole")
    ]
    assert same(*ends)


def test_a_trial_that_recovered_before_it_was_resumed_is_not_ended_by_what_it_showed_later(tmp_path):
    one = session(tmp_path, stop=False)
    one.advance(0.016, judge)
    one.advance(0.064, collapsed)
    one.close()
    again = session(tmp_path, stop=True)
    assert again.advance(0.016, judge)["kimg"] == 0.016
    with pytest.raises(Stopped, match=r"at 0\.048 kimg"):
        again.advance(0.064, judge)
    again.close()
