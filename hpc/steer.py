#!/usr/bin/env python
"""Steer a sweep on a cluster: `python hpc/steer.py cancel|hold|release|retry RUN`; `--help` tells more."""

import sys
from pathlib import Path

# This checkout's packages, whatever else is installed; and hpc/ itself off the path, so that its modules are
# found by their full names only.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from hpc import start  # noqa: E402

if __name__ == "__main__":
    sys.exit(start("hpc.cli.steer", "steer"))
