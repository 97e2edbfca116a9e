"""A real Slurm for the tests marked `slurm`, up once per session (see slurm/testbed): the fixture `slurm`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from places import ROOT

if TYPE_CHECKING:
    import submitit

SCRIPT = ROOT / "slurm" / "testbed"


@dataclass(frozen=True)
class Testbed:
    """The testbed of one state folder, and what tests ask of its Slurm."""

    state: Path

    @property
    def environment(self) -> dict[str, str]:
        """For slurm/testbed itself, which refuses to run beside a Slurm that it does not know."""
        inherited = {name: value for name, value in os.environ.items() if name != "SLURM_CONF"}
        return inherited | {"SLURM_TESTBED": str(self.state)}

    def try_run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = self.environment | variables
        return subprocess.run([SCRIPT, *words], env=env, capture_output=True, text=True, timeout=300)

    def run(self, *words: str) -> str:
        """What `slurm/testbed words...` prints; the test fails where the command does."""
        done = self.try_run(*words)
        if done.returncode:
            pytest.fail(f"slurm/testbed {' '.join(words)}: {done.stderr}")
        return done.stdout

    def client(self, *command: str) -> str:
        """What one of Slurm's clients prints."""
        env = os.environ | {"SLURM_CONF": str(self.state / "slurm.conf")}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        if done.returncode:
            pytest.fail(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def interrupt(self, job_id: str) -> None:
        """Send what comes before a time limit; to scancel a job that it ends at once is an error."""
        env = os.environ | {"SLURM_CONF": str(self.state / "slurm.conf")}
        subprocess.run(["scancel", "--signal=USR2", job_id], env=env, timeout=60)

    def job(self, job_id: str, field: str) -> str:
        """One field of `scontrol show job`, such as JobState, Restarts or NodeList."""
        words = self.client("scontrol", "--oneliner", "show", "job", job_id).split()
        return dict(word.partition("=")[::2] for word in words)[field]

    def wait_until(self, what: str, condition: Callable[[], Any], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds:.0f} s: {what}")
            time.sleep(0.1)

    def result(self, job: submitit.Job[Any]) -> Any:
        """A job's value, once on disk: submitit itself takes the moment after a lost node for the end."""
        self.wait_until(f"the result of job {job.job_id}", job.paths.result_pickle.exists)
        return job.result()


@pytest.fixture(scope="session")
def testbed() -> Iterator[Testbed]:
    """Three nodes with two fake GPUs each. The folder is this checkout's: a later session clears it away."""
    if os.geteuid() != 0:
        pytest.skip("a Slurm for tests needs root")
    if not Path("/etc/debian_version").exists():
        pytest.skip("a Slurm for tests needs Debian, whose packages it installs")
    checkout = hashlib.sha256(str(SCRIPT).encode()).hexdigest()[:8]
    testbed = Testbed(Path(tempfile.gettempdir()) / f"slurm-tests-{checkout}")
    testbed.run("down")
    try:
        testbed.run("up", "--nodes", "3", "--cpus", "4", "--gpus", "2", "--mem", "8000")
        yield testbed
    finally:
        testbed.run("down")


@pytest.fixture
def slurm(testbed: Testbed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Testbed]:
    """The session's Slurm, for this test's own processes too; afterwards the queue is emptied."""
    monkeypatch.setenv("SLURM_CONF", str(testbed.state / "slurm.conf"))
    yield testbed
    testbed.run("up")
    testbed.client("scancel", "--user=root")
    testbed.wait_until("an empty queue", lambda: not testbed.client("squeue", "--noheader"))


@pytest.fixture
def executor(slurm: Testbed, tmp_path: Path) -> submitit.AutoExecutor:
    """Submits small jobs to the partition `main`."""
    import submitit  # here, for the sessions without a test of Slurm

    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="slurm")
    executor.update_parameters(timeout_min=5, cpus_per_task=1, mem_gb=0.1, slurm_partition="main")
    return executor
