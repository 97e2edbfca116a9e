"""Where this checkout lies, for tests at any depth."""

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent  # on PYTHONPATH of a process that imports these modules
ROOT = SUPPORT.parents[1]
