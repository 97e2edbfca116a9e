#!/usr/bin/env python
"""Write the leaderboard of a sweep and export its best generators: `python hpc/aggregate.py RUN`."""

import sys
from pathlib import Path

# This checkout's packages, whatever else is installed; and hpc/ itself off the path, so that its modules are
# found by their full names only.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from hpc import start

if __name__ == "__main__":
    sys.exit(start("hpc.cli.results", "aggregate"))
