"""The fixtures of the tests here."""

from slurm_sweeps import results, sweep
from slurm_testbed import executor, slurm, testbed

__all__ = ["executor", "results", "slurm", "sweep", "testbed"]
