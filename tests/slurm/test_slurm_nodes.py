"""A search whose Ray spans two nodes of a real Slurm: trials on both, interrupted, moved, cancelled."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from launches import drivers, processes, rows_of
from slurm_sweeps import SLOW, Sweep

from hpc.plan.sweep_plan import reopen
from skin_gan.folders import RunFolder

if TYPE_CHECKING:
    from slurm_testbed import Testbed

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]
NODES = (*SLOW, "profile.nodes=2", "profile.slots=1")
# kimg: so long that the second node has joined before the first has trained both trials, once or twice
LONG, LONGER = 4.0, 8.0
JOB = "search-df"


def sessions(run: Path) -> dict[int, str]:
    """Nodes of the sweep's Ray by the process that leads its others there: theirs may hide variables."""
    found = {}
    for pid in drivers(run):
        with suppress(OSError):  # it has just ended
            words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
            found[pid] = dict(word.partition("=")[::2] for word in words).get("SLURMD_NODENAME", "")
    return {pid: node for pid, node in found.items() if node}


def members(leaders: set[int]) -> list[tuple[int, str]]:
    """(Leader, name) of each process that one of these has started, itself included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            leader = os.getsid(int(path.parent.name))
            name = path.read_bytes().partition(b"\0")[0].decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if leader in leaders and name:  # a process that has ended has none
            found.append((leader, name))
    return found


def training(run: Path) -> set[str]:
    """Nodes on which a trial runs now."""
    nodes = sessions(run)
    return {nodes[leader] for leader, name in members(set(nodes)) if "Trainable" in name}


def folders(run: Path) -> list[Path]:
    """Temporary ones of the sweep's Rays."""
    return [Path(Path(f"/proc/{pid}/cmdline").read_text().split("\0")[-2]) for pid in drivers(run)]


def secrets(run: Path) -> list[Path]:
    return [*run.glob("jobs/*.ray/*")]


def wait_for_both(slurm: Testbed, s: Sweep) -> None:
    slurm.wait_until("trials on two nodes", lambda: len(training(s.run)) == 2, 300)


def test_a_search_over_two_nodes_trains_the_trials_of_one_on_both(
    slurm: Testbed, sweep, tmp_path: Path
) -> None:
    scratch = f"profile.scratch={tmp_path}/$SLURMD_NODENAME"
    s = sweep(*NODES, scratch, f"search.rungs=[0.064,{LONG}]", "seed=31")
    wait_for_both(slurm, s)
    (secret,) = secrets(s.run)
    closed = [secret.parent, *folders(s.run)]
    assert [path.stat().st_mode & 0o777 for path in (secret, *closed)] == [0o600, 0o700, 0o700, 0o700]
    s.wait()
    s.check_finished(LONG)
    assert s.record(JOB)["state"] == "done" and not secrets(s.run)
    assert sorted(path.parts[-3] for path in tmp_path.glob("*/skin-gan-*/images-32.npy")) == [
        "node1",
        "node2",
    ]
    trials = [folder.path.name for _, folder in reopen(RunFolder(s.run)).trials("df")]
    assert sorted(row["trial"] for row in rows_of(s.run)) == trials


def test_it_goes_on_elsewhere_after_an_interruption_and_leaves_nothing_when_cancelled(
    slurm: Testbed, sweep
) -> None:
    s = sweep(*NODES, f"search.rungs=[0.064,{LONGER}]", "seed=32")
    wait_for_both(slurm, s)
    s.wait_for_trial()
    before = sessions(s.run)
    slurm.client("scontrol", "update", "nodename=node1", "state=drain", "reason=test")
    try:
        slurm.interrupt(s.ids[JOB])
        s.wait_for_run(JOB, 1)
        assert not members(set(before)) and "failed" not in s.states
        wait_for_both(slurm, s)
        assert training(s.run) == {"node2", "node3"}
    finally:
        slurm.client("scontrol", "update", "nodename=node1", "state=resume")
    leaders, temporary = set(sessions(s.run)), folders(s.run)
    s.steer("cancel")
    s.wait()
    slurm.wait_until("no process", lambda: not members(leaders) and not processes(s.run), 60)
    assert not secrets(s.run) and not any(path.exists() for path in temporary)
    assert "cancelled" in s.status()
    s.launch()
    s.wait()
    s.check_finished(LONGER)


@pytest.mark.slow  # two minutes and more; by hand
def test_a_killed_driver_and_a_killed_nodes_ray_lose_nothing(slurm: Testbed, sweep) -> None:
    s = sweep(*NODES, f"search.rungs=[0.064,{LONGER}]", "seed=33")
    for node in ("node1", "node2"):  # the search and its Ray, then the other node's
        wait_for_both(slurm, s)
        victims = [pid for pid, place in sessions(s.run).items() if place == node]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        slurm.wait_until("their end", lambda pids=set(victims): not members(pids))
    wait_for_both(slurm, s)
    s.wait()
    s.check_finished(LONGER)
    assert s.record(JOB)["restarts"] == 0
