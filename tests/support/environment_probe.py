"""A job that writes down of how many processes it believes to be one."""

from __future__ import annotations

import os
from pathlib import Path

from hpc.state.records import slurm_id


class Probe:
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> None:
        from accelerate.utils.environment import get_cpu_distributed_information

        found, ranked = get_cpu_distributed_information(), os.environ.get("RANK", "0")
        text = f"{found.world_size} process, rank {max(found.rank, int(ranked))}, Slurm's job {slurm_id()!r}"
        Path(self.path).write_text(text)
