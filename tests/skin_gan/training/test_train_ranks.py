"""Two processes on CPUs (gloo) train one trial: in step with each other, and as one process would."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gan_samples import BATCH, judge, open_session, same, spec
from places import SUPPORT
from two_ranks import RUNGS, trial

from skin_gan.errors import SkinGanError
from skin_gan.io import read_jsonl
from skin_gan.training.learner import Learner
from skin_gan.training.meter import Clock

SCRIPT = SUPPORT / "two_ranks.py"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder in which two processes have trained every case."""
    folder = tmp_path_factory.mktemp("two")
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1",
              "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo"}  # fmt: skip
    command = [sys.executable, str(SCRIPT), str(folder)]
    ranks = [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ | common | {"RANK": r, "LOCAL_RANK": r}
        )
        for r in ("0", "1")
    ]
    try:
        messages = [rank.communicate(timeout=200)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(messages)
    return folder


def replicas(folder: Path, case: str) -> list[dict]:
    return [torch.load(folder / f"{case}-{rank}.pt") for rank in (0, 1)]


def assert_close(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("case", ["dcgan", "aegan", "penalised"])
def test_two_processes_equal_one(trained, tmp_path, case):
    """With group normalisation: batch normalisation sees half a batch in each process."""
    first, second = replicas(trained, case)
    assert same(first, second)
    alone = open_session(tmp_path, trial(case))
    start = {k: v.clone() for k, v in alone.learner.plain["generator"].state_dict().items()}
    for kimg in RUNGS:
        alone.advance(kimg, judge)
    state = alone.learner.state_dict()
    alone.close()
    for name, net in state["nets"].items():
        assert_close(first["learner"]["nets"][name], net)
    assert_close(first["learner"]["ema"], state["ema"])
    moved = [(state["nets"]["generator"][k] - start[k]).abs().max() for k in start]
    assert max(moved) > 1e-3  # far more than the tolerance
    for row, expected in zip(rows(trained / case), rows(tmp_path), strict=True):
        for loss in ("loss_d", "loss_g"):
            assert row[loss] == pytest.approx(expected[loss], rel=1e-3)


def test_replicas_stay_in_step_with_batch_normalisation(trained):
    first, second = (state["learner"] for state in replicas(trained, "batch"))
    for part in ("images", "opt_g", "opt_d", "rng", "sampler"):
        assert same(first[part], second[part]), part
    for name, net in first["nets"].items():
        for key in net:
            if "running" not in key:  # each process's own
                assert same(net[key], second["nets"][name][key]), key


def test_only_the_first_process_writes(trained):
    assert [row["images"] for row in rows(trained / "batch")] == [32, 64]
    assert len(list((trained / "batch").glob("events.*"))) == len(RUNGS)


def rows(folder: Path) -> list[dict]:
    return read_jsonl(folder / "metrics.jsonl")


def test_a_batch_that_cannot_be_shared_equally_is_an_error():
    class Three:
        num_processes = 3

    with pytest.raises(SkinGanError, match=f"train.batch={BATCH} cannot be shared equally by 3"):
        Learner(spec(), None, Three())


def test_processes_save_together_when_one_of_them_has_to():
    """Their clocks differ, and a signal may reach one only: each hears what the others want."""

    class Two:
        num_processes, device = 2, "cpu"

        def gather(self, mine: torch.Tensor) -> torch.Tensor:
            self.mine = mine
            return torch.cat([mine, torch.tensor([[self.other, 0.0]])])

    accelerator = Two()
    clock = Clock(accelerator, seconds=1e9)
    clock.begin = clock.asked = clock.begin - 100.0  # a step of 100 s: they ask after each
    for wanted, other, expected in ((False, 0.0, False), (True, 0.0, True), (False, 1.0, True)):
        clock.asked, accelerator.other = clock.asked - 100.0, other
        assert clock.due(wanted) is expected
        assert accelerator.mine[0, 0] == wanted
