"""Where the project's own files are: in a checkout, or installed from a wheel. No torch.

A third place is the copy in a sweep's folder from which its jobs run; it counts as installed.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the folder that holds the packages skin_gan and hpc
IN_CHECKOUT = (ROOT / "pyproject.toml").is_file() and (ROOT / "sweeps").is_dir()


def shipped(folder: str) -> Path:
    """The project's own `sweeps` or `slurm`; a wheel holds them inside hpc."""
    return ROOT / folder if IN_CHECKOUT else ROOT / "hpc" / "shipped" / folder


def results() -> Path:
    """The default folder of results: the checkout's, or else that of the working folder."""
    return ROOT / "results" if IN_CHECKOUT else Path("results")


def called(command: str) -> str:
    """How a user of this installation calls a command, such as `launch` or `status`."""
    return f"python hpc/{command}.py" if IN_CHECKOUT else f"skin-gan {command}"
