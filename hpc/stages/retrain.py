"""Trains a setting again, from the start to the last rung, as a search does that stops none of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hpc.stages.inputs import Inputs
from skin_gan.config import EvalSettings, TrialSpec
from skin_gan.folders import COMPLETED, TrialFolder


def train_in_full(
    inputs: Inputs,
    spec: TrialSpec,
    folder: TrialFolder,
    rungs: Sequence[float],
    evaluation: EvalSettings,
    source: Path | None,
    half: int | None = None,
) -> None:
    """Train to the last of `rungs`, in kimg, unless that is done; evaluate at each. Raises Diverged.

    `source`: the file of the pretrained networks, if any; `half`: of the validation lesions, for the judge. A
    killed training resumes from its last checkpoint.
    """
    from skin_gan.training.session import Session

    if (state := folder.state())["state"] == COMPLETED and state["kimg"] >= rungs[-1]:
        return
    split, judge = inputs.split(spec.label, spec.fold), inputs.judge(spec.label, spec.fold, spec, half)
    watched = replace(evaluation, stop_on_alarm=False)  # which is for trials of a search
    session = Session(spec, folder, split, inputs.plan.experiment.operations, watched, source=source)
    try:
        for kimg in rungs:
            session.advance(kimg, judge, target=rungs[-1])
        session.finish(COMPLETED)
    finally:
        session.close()
