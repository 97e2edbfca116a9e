"""How many files there are, for the bound on those of a whole sweep."""

from pathlib import Path

PER_JOB = 8  # most files of a job: its record, its lock, and what Submitit writes
CODE = 300  # most files of a frozen copy of the packages


def files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))
