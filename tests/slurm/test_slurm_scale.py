"""Hundreds of jobs are a few arrays to Slurm, and a few calls."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from launches import hpc
from slurm_sweeps import GRID

if TYPE_CHECKING:
    from slurm_testbed import Testbed

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]
CLIENTS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")


@pytest.fixture
def calls(slurm: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that gets the name of every client of Slurm that is called."""
    log = tmp_path / "calls"
    for name in CLIENTS:
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} >> {log}\nexec {shutil.which(name)} "$@"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return log


def test_many_jobs_take_few_calls_to_submit_watch_and_cancel(slurm: Testbed, sweep, calls: Path) -> None:
    words = ("search.trials=60", "profile.max_array=50", "profile.extra={hold: true}", "classes=[df,vasc]")
    s = sweep(*GRID, *words, "seed=51")
    assert len(s.ids) == 2 * 60 + 2
    assert Counter(calls.read_text().split()) == {"squeue": 2, "scontrol": 2, "sbatch": 1 + 3 + 1}
    calls.write_text("")
    assert "60 x search-df" in s.status()
    assert calls.read_text().split() == ["squeue"]
    calls.write_text("")
    assert "82 more" in s.steer("cancel")
    assert Counter(calls.read_text().split()) == {"squeue": 1, "scancel": 1}
    slurm.wait_until("an empty queue", lambda: not slurm.client("squeue", "--noheader"))
    assert hpc("steer", "cancel", str(s.run)).stdout.strip() == "no such job is in the queue"
