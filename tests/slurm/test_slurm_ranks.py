"""Trainings of several processes (gloo) on a real Slurm: equal to one process, and resumed after one of them
was killed.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from launches import processes
from slurm_sweeps import GRID, SLOW

from hpc.plan.sweep_plan import Plan, reopen
from hpc.stages.inputs import Inputs
from hpc.state.generators import chosen, final_run, read_card
from skin_gan.config import TrialSpec
from skin_gan.folders import RunFolder, TrialFolder
from skin_gan.io import read_jsonl
from skin_gan.training import checkpoint
from skin_gan.training.session import Session

if TYPE_CHECKING:
    from slurm_testbed import Testbed

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]
KIMG, LONGER = 0.256, 0.768  # the longer one leaves time to kill a process in the middle
# With batch normalisation each process would see statistics of its own part of the batch. Adam would turn the
# rounding of sums in another order into whole steps where a gradient is almost zero, and with long steps of
# any kind two trainings part exponentially.
SMOOTH = (
    "trial.model.norm=group", "trial.model.d_norm=group",
    "trial.optim.name=sgd", "trial.optim.lr_g=2e-6", "trial.optim.lr_d=2e-6",
)  # fmt: skip


def test_two_nodes_of_two_processes_equal_one_and_survive_the_loss_of_one(
    slurm: Testbed, sweep, tmp_path: Path
) -> None:
    place = ("profile.nodes=2", "profile.cpus_per_task=2")
    s = sweep(
        *GRID, *SMOOTH, *place, "seed=21", "search.trials=1", "search.rungs=[0.064]", f"final.kimg={LONGER}"
    )
    s.wait_for_trial(inside="final/trials")
    os.kill(rank(s.run, 3), signal.SIGKILL)
    s.wait()
    assert "a killed process" in s.status() and not (s.run / "final" / "best").exists()
    ids = s.ids
    assert "submitted: final-df" in s.steer("retry")
    assert {job for job in ids if s.ids[job] != ids[job]} == {"final-df"}
    s.wait()
    plan = reopen(RunFolder(s.run))
    card = read_card(final_run(plan).best("df"))
    assert card and card["trained_kimg"] == LONGER
    assert_as_one_process(plan, *chosen(plan, "df"), LONGER, tmp_path)


@pytest.mark.parametrize(
    ("words", "seed"),
    [((*GRID, "profile.nodes=2"), 22), (SLOW, 23)],
    ids=["tasks on two nodes", "beside Ray's worker"],
)
def test_a_trial_on_two_devices_equals_one(slurm: Testbed, sweep, tmp_path: Path, words, seed: int) -> None:
    place = ("profile.devices_per_trial=2", "profile.cpus_per_task=2")
    s = sweep(*words, *SMOOTH, *place, f"seed={seed}", "search.trials=1", f"search.rungs=[{KIMG}]")
    s.wait()
    plan = reopen(RunFolder(s.run))
    assert_as_one_process(plan, *plan.trials("df")[0], KIMG, tmp_path)
    slurm.wait_until("no process", lambda: not processes(s.run), 60)


def test_what_ends_another_process_than_the_first_is_named(slurm: Testbed, sweep, tmp_path: Path) -> None:
    (tmp_path / "node2").write_text("no folder for scratch")
    scratch = f"profile.scratch={tmp_path}/$SLURMD_NODENAME"
    s = sweep(
        *GRID, "profile.nodes=2", scratch, "profile.extra={exclude: node3}", "seed=24", "search.trials=1"
    )
    s.wait()
    assert "process 1: cannot write" in s.status()


def rank(run: Path, number: int) -> int:
    """The process id of one of the processes that train together."""
    for pid in processes(run, "submitit.core._submit"):
        if f"SLURM_PROCID={number}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            return pid
    raise AssertionError(f"no process of rank {number}")


def assert_as_one_process(
    plan: Plan, spec: TrialSpec, folder: TrialFolder, kimg: float, alone_in: Path
) -> None:
    assert [row["kimg"] for row in read_jsonl(folder.metrics)] == [kimg]
    e = plan.experiment
    alone = Session(spec, TrialFolder(alone_in), Inputs(plan).split("df"), e.operations, e.evaluate)
    start = {name: clone(net.state_dict()) for name, net in alone.learner.plain.items()}
    alone.train(kimg)
    expected = alone.learner.state_dict()
    alone.close()
    together = checkpoint.load(folder.last, spec.id)["learner"]
    assert together["images"] == expected["images"]
    for name, net in expected["nets"].items():
        moved, apart = distance(start[name], net), distance(together["nets"][name], net)
        print(f"{name}: moved {moved:.3g}, apart {apart:.3g}")
        # Rounding differs with the size of a process's batch; other draws would part them altogether.
        assert apart < 0.005 * moved, name


def clone(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in state.items()}


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Euclidean, over all weights."""
    return sum(float(((a[key] - b[key]).double() ** 2).sum()) for key in a) ** 0.5
