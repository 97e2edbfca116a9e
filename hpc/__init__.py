"""The experiment: plans, jobs, search, selection. Run its scripts with the Python of .venv."""

import sys
from importlib.util import find_spec

if missing := [name for name in ("omegaconf", "rich", "yaml", "numpy") if find_spec(name) is None]:
    print(
        f"error: {sys.executable} has no {', '.join(missing)}: run `make .venv/installed` once, then use "
        ".venv/bin/python in place of python (or activate .venv)",
        file=sys.stderr,
    )
    raise SystemExit(2)
