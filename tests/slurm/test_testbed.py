"""The testbed is a real Slurm: jobs run, wait for one another, and come back after a lost node."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from places import ROOT

if TYPE_CHECKING:
    import submitit
    from slurm_testbed import Testbed

pytestmark = pytest.mark.slurm


@pytest.fixture
def second(testbed: Testbed, tmp_path: Path) -> Testbed:
    """Another testbed beside the session's, not yet up."""
    return type(testbed)(tmp_path / "second")


def alive(*command: str) -> bool:
    """Whether a process with this command line lives; this host sees those of all nodes."""
    wanted = b"\0".join(word.encode() for word in command) + b"\0"
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == wanted:
                return True
        except OSError:  # it has just ended
            continue
    return False


# The command


def test_up_again_says_so_and_keeps_the_queue(slurm: Testbed) -> None:
    job = slurm.client("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true")
    assert "already up" in slurm.run("up", "--nodes", "3")
    assert slurm.job(job, "JobState") == "PENDING"


def test_up_with_other_settings_is_refused(slurm: Testbed) -> None:
    done = slurm.try_run("up", "--nodes", "2")
    assert done.returncode == 1
    assert "nodes" in done.stderr and "down" in done.stderr


def test_another_slurm_on_the_machine_is_left_alone(second: Testbed) -> None:
    done = second.try_run("up", SLURM_CONF="/opt/slurm/slurm.conf")
    assert done.returncode == 1
    assert "/opt/slurm/slurm.conf" in done.stderr
    assert not second.state.exists()


def test_down_deletes_no_folder_that_it_did_not_make(second: Testbed) -> None:
    second.state.mkdir()
    (second.state / "precious").touch()
    assert "was not made by this script" in second.try_run("down").stderr
    assert "was not made by this script" in second.try_run("up").stderr
    assert (second.state / "precious").exists()


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_up_recovers_after_it_was_killed_half_way(second: Testbed, testbed: Testbed, seconds: float) -> None:
    script = ROOT / "slurm" / "testbed"
    first = subprocess.Popen([script, "up", "--nodes", "1"], env=second.environment)
    time.sleep(seconds)
    first.kill()
    first.wait()
    assert "testbed: up" in second.run("up", "--nodes", "1", "--no-accounting")
    second.run("down")


@pytest.mark.parametrize("options", [[], ["--no-namespaces"]])
def test_down_leaves_no_process_and_no_file(second: Testbed, options: list[str]) -> None:
    second.run("up", "--nodes", "1", "--no-accounting", *options)
    second.client("sbatch", "--output=/dev/null", "--wrap=setsid sleep 54321 & sleep 54322")
    second.wait_until("the job's processes", lambda: alive("sleep", "54321") and alive("sleep", "54322"))
    second.run("down")
    assert not alive("sleep", "54321") and not alive("sleep", "54322")
    assert not second.state.exists()


# Jobs


def test_job_returns_its_value_from_a_node(slurm: Testbed, executor: submitit.AutoExecutor) -> None:
    executor.update_parameters(gpus_per_node=2)

    def where() -> tuple[str, str]:
        return os.environ["SLURMD_NODENAME"], os.environ["CUDA_VISIBLE_DEVICES"]

    node, gpus = slurm.result(executor.submit(where))
    assert node.startswith("node")
    assert gpus == "0,1"


def test_nodes_have_their_own_names_and_reach_one_another(slurm: Testbed) -> None:
    if "namespaces=False" in slurm.run("up"):
        pytest.skip("this machine does not allow namespaces")
    hosts = slurm.client("srun", "--nodes=2", "bash", "-c", "hostname; getent hosts node1 node2 >&2").split()
    assert len(set(hosts)) == 2 and socket.gethostname() not in hosts


def test_array_never_runs_more_than_its_cap(slurm: Testbed, executor: submitit.AutoExecutor) -> None:
    executor.update_parameters(slurm_array_parallelism=2)

    def interval(number: int) -> tuple[int, float, float]:
        start = time.time()
        time.sleep(0.5)
        return number, start, time.time()

    done = [slurm.result(job) for job in executor.map_array(interval, range(5))]
    assert [number for number, _, _ in done] == list(range(5))
    assert max(sum(start <= moment < end for _, start, end in done) for _, moment, _ in done) <= 2


def test_afterany_runs_when_the_first_job_has_failed(slurm: Testbed, executor: submitit.AutoExecutor) -> None:
    def fail() -> None:
        time.sleep(1)
        raise RuntimeError("on purpose")

    first = executor.submit(fail)
    executor.update_parameters(slurm_additional_parameters={"dependency": f"afterany:{first.job_id}"})
    second = executor.submit(time.time)
    assert slurm.job(second.job_id, "JobState") == "PENDING"
    assert slurm.result(second) > first.paths.result_pickle.stat().st_mtime
    assert "on purpose" in str(first.exception())


# Faults


def submit_hanging(slurm: Testbed, executor: submitit.AutoExecutor) -> submitit.Job[str]:
    """A job, running now, that hangs until it is requeued; its second run returns its node's name."""

    def hang_once() -> str:
        if "SLURM_RESTART_COUNT" not in os.environ:
            time.sleep(300)
        return os.environ["SLURMD_NODENAME"]

    job = executor.submit(hang_once)
    slurm.wait_until("the start", lambda: slurm.job(job.job_id, "JobState") == "RUNNING")
    return job


def test_job_is_requeued_when_its_node_goes_down(slurm: Testbed, executor: submitit.AutoExecutor) -> None:
    job = submit_hanging(slurm, executor)
    node = slurm.job(job.job_id, "NodeList")
    slurm.client("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    slurm.result(job)
    assert slurm.job(job.job_id, "Restarts") == "1"


def test_job_moves_to_another_node_when_its_node_loses_power(
    slurm: Testbed, executor: submitit.AutoExecutor
) -> None:
    job = submit_hanging(slurm, executor)
    node = slurm.job(job.job_id, "NodeList")
    slurm.run("kill-node", node)
    assert f"{node:10} down" in slurm.try_run("status").stdout
    assert slurm.result(job) != node
    slurm.run("start-node", node)
    assert f"{node} idle" in slurm.run("status")


def test_low_job_is_requeued_for_a_high_one(slurm: Testbed, tmp_path: Path) -> None:
    log = tmp_path / "low.log"
    hang = f'echo run $SLURM_RESTART_COUNT >> {log}; trap "echo warned >> {log}" USR2; sleep 60 & wait; wait'
    place = ["--output=/dev/null", "--nodelist=node1", "--exclusive"]
    slurm.client("sbatch", *place, "--partition=low", "--signal=B:USR2@1", f"--wrap={hang}")
    slurm.wait_until("the first run", log.exists)
    slurm.client("sbatch", *place, "--partition=high", "--wrap=true")
    slurm.wait_until("the second run", lambda: "run 1" in log.read_text())
    assert log.read_text().split("\n")[:3] == ["run", "warned", "run 1"]


def test_queue_survives_a_restart_of_slurmctld(slurm: Testbed) -> None:
    job = slurm.client("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true")
    saved = slurm.state / "controller" / "job_state"  # written some seconds later; a job not in it is lost
    submitted = time.time()
    slurm.wait_until("the saved queue", lambda: saved.exists() and saved.stat().st_mtime > submitted)
    slurm.run("kill-node", "slurmctld")
    assert "slurmctld does not answer" in slurm.try_run("status").stdout
    slurm.run("start-node", "slurmctld")
    assert slurm.job(job, "JobState") == "PENDING"
