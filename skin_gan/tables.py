"""Reads the tables of a sweep, finished or running, as pandas tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder, TrialFolder
from skin_gan.io import read_jsonl

if TYPE_CHECKING:
    import pandas as pd

TRIALS, EVALUATIONS = "trials", "evaluations"
NAMES = dict.fromkeys(("class", "label", "trial"), str)  # columns of text, though a class may be called 007


def read_table(run: Path | str, name: str) -> pd.DataFrame:
    """The table `name` of the sweep in the folder `run`, which may be one of results/published.

    - `leaderboard`: a row per trial: state, kimg, kid (x1000) with interval and floor, searched settings
    - `trials`: a row per trial, read from its folder, also while it runs: state, kimg, kid, best_kid, seconds
    - `evaluations`: a row per evaluation of each trial: kimg and every score, for curves
    - `gains`: a row per classifier, scope, arm, base and measure: gain with its interval, verdict
    - `arms`, `costs`, `images`, `leakage`, `confirmation`: any other CSV file of the folder or of its report

    Where a value is not defined it is NaN. SkinGanError that lists the tables there are if there is none of
    the name: leaderboard.csv comes with the selection, gains.csv with the classifiers.
    """
    folder = RunFolder(Path(run))
    files = {p.stem: p for p in sorted([*folder.path.glob("report/*.csv"), *folder.path.glob("*.csv")])}
    trials = [TrialFolder(p.parent) for p in sorted(folder.trials.glob("*/*/trial.yaml"))]
    if name in (TRIALS, EVALUATIONS) and trials:
        return _of_trials(trials, name)
    if name not in files:
        there = ", ".join([*files, *([TRIALS, EVALUATIONS] if trials else [])]) or "none"
        raise SkinGanError(
            f"{folder.path} has no table {name!r}: expected a sweep's folder; tables there: {there}"
        )
    return _csv(files[name])


def _csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        columns = pd.read_csv(path, nrows=0).columns
        undefined = {column: ["", "nan"] for column in columns if column not in NAMES}
        return pd.read_csv(path, dtype=NAMES, keep_default_na=False, na_values=undefined)
    except (OSError, ValueError) as e:
        raise SkinGanError(
            f"{path} cannot be read as a table ({e}): `python hpc/aggregate.py RUN` writes it again"
        ) from e


def _of_trials(trials: list[TrialFolder], name: str) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for trial in trials:
        who = {"class": trial.path.parent.name, "trial": trial.path.name}
        found = [trial.state()] if name == TRIALS else [r for r in read_jsonl(trial.metrics) if "images" in r]
        rows += [{**who, **row} for row in found]
    return pd.DataFrame(rows, columns=None if rows else ["class", "trial"])
