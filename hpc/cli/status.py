"""`hpc/status.py`: shows the state of sweeps, from their folders and one squeue call. No torch."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hpc.cli.compare import Compared, as_csv, as_table, compared
from hpc.cli.launch import make_console
from hpc.cli.progress import stage_line, table, trial_table
from hpc.plan.precision import described
from hpc.plan.sweep_plan import SEARCH, class_of
from hpc.settings.compose import load
from hpc.slurm import client
from hpc.slurm.job_states import JobState, Queue, ask, job_states
from hpc.state.snapshot import snapshot
from skin_gan.errors import SkinGanError
from skin_gan.folders import STOPPED, RunFolder
from skin_gan.installation import called, results
from skin_gan.io import locked

MANY = 40  # jobs that are listed one by one; more are counted
STYLES = {"running": "cyan", "done": "green", "failed": "bold red", "lost": "bold red", "cancelled": "yellow"}


def status(arguments: list[str]) -> int:
    """Show the state of sweeps."""
    parser = argparse.ArgumentParser(prog=called("status"), description=status.__doc__)
    parser.add_argument(
        "run", nargs="*", type=Path,
        help="a sweep's folder (default: all under results/); several, or a folder of them, are compared",
    )  # fmt: skip
    parser.add_argument("--csv", action="store_true", help="compare as CSV, a row per sweep")
    parser.add_argument("--class", dest="label", help="show each trial of this class")
    parser.add_argument("--trials", action="store_true", help="show each trial of every class")
    parser.add_argument("--watch", action="store_true", help="keep showing until it has ended")
    options = parser.parse_args(arguments)
    if options.csv and options.watch:
        parser.error("--csv is written once: leave --watch out")
    runs = named_runs(options.run) if options.run else find_runs(results())
    if not runs:
        raise SkinGanError(f"no sweep under {results()}: name a sweep's folder, or launch one")
    if options.csv:
        return print_csv(runs)
    detailed = options.trials or options.label or not options.run
    page = sweep_pages if detailed or len(runs) == 1 else comparison
    console = make_console()
    if not options.watch:
        shown, code, _ = page(runs, options)
        console.print(shown)
        return code
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            shown, code, over = page(runs, options)
            if live:
                live.update(shown, refresh=True)
            else:
                console.print(time.strftime("%H:%M:%S"), shown)
            if over:
                return code
            time.sleep(5.0 if live else 15.0)


def find_runs(results: Path) -> list[RunFolder]:
    """Every sweep's folder in `results`, or in a folder there, the latest last."""
    paths = [*results.glob("*/sweep.yaml"), *results.glob("*/*/sweep.yaml")]
    found = sorted(paths, key=lambda p: p.stat().st_mtime)
    runs = (RunFolder(p.parent) for p in found)
    return [run for run in runs if run.provenance.exists()]  # leaves out results/published/


def named_runs(paths: list[Path]) -> list[RunFolder]:
    """The sweeps of a command line: folders of sweeps, and folders that hold such folders."""
    runs: dict[Path, RunFolder] = {}
    for path in (path.absolute() for path in paths):
        inside = [] if RunFolder(path).settings.exists() else find_runs(path)
        runs |= {run.path: run for run in inside or [RunFolder(path)]}
    return list(runs.values())


def read_all(runs: list[RunFolder]) -> tuple[list[Compared], list[str]]:
    """The sweeps for a comparison, and the errors of those that cannot be read."""
    found, errors = [], []
    for run in runs:
        try:
            found.append(compared(run))
        except SkinGanError as e:
            errors.append(f"{run.path}: error: {e}")
    return found, errors


def print_csv(runs: list[RunFolder]) -> int:
    """Print the comparison as CSV, and errors to standard error; returns the exit code."""
    found, errors = read_all(runs)
    if found:
        print(as_csv(found), end="")
    for error in errors:
        print(error, file=sys.stderr)
    return 2 if errors else 0


def comparison(runs: list[RunFolder], options: argparse.Namespace) -> tuple[Group, int, bool]:
    """The table of sweeps side by side, the exit code, and whether all have ended."""
    found, errors = read_all(runs)
    over = not options.watch or all(describe(sweep.run, options)[1] for sweep in found)
    parts: list[RenderableType] = [as_table(found)] if found else []
    return Group(*parts, *(Text(error, style="bold red") for error in errors)), 2 if errors else 0, over


def sweep_pages(runs: list[RunFolder], options: argparse.Namespace) -> tuple[Group, int, bool]:
    """The text, the exit code, and whether all sweeps have ended. A damaged sweep hides no other."""
    parts: list[RenderableType] = []
    code, over = 0, True
    for run in runs:
        try:
            shown, ended = describe(run, options)
            parts, over = parts + shown, over and ended
        except SkinGanError as e:
            if len(runs) == 1:
                raise
            parts.append(Text(f"{run.path}: error: {e}", style="bold red"))
            code = 2
    return Group(*parts), code, over


def describe(run: RunFolder, options: argparse.Namespace) -> tuple[list[RenderableType], bool]:
    """The text about one sweep, and whether it has ended: no launch runs here, or Slurm has no job left."""
    e = load(run.settings)
    slurm = e.profile.kind == "slurm"
    queue = ask(run, e.profile) if slurm else Queue()
    s = snapshot(run, e)
    if options.label and options.label not in s.experiment.classes:
        raise SkinGanError(f"unknown class {options.label}: choose one of {', '.join(s.experiment.classes)}")
    parts: list[RenderableType] = []
    if slurm:
        states = job_states(run, queue, s.records)
        alive = sum(state.alive for state in states)
        where = f"from disk alone: {queue.trouble}" if queue.trouble else f"{alive} jobs in the queue"
        active, ended = bool(alive), not alive and not queue.trouble
        parts.append(job_table(states))
        at_work = {
            class_of(state.job) for state in states if state.alive and state.state != client.PENDING.lower()
        }
        at_work |= set(e.classes) if queue.trouble else set()
    else:
        active = locked(run.path / "launch.lock")
        where = "a launch is running" if active else "no launch is running here"
        # A search may go on although its launch was killed: it holds its own lock.
        at_work = {c.label for c in s.classes if c.running and (
            active or any(locked(path) for path in run.jobs.glob(f"{SEARCH}-{c.label}*.lock")))}  # fmt: skip
        ended = not active and not at_work
    s = s.marked(STOPPED, set(e.classes) - at_work)  # killed trials are still recorded as running
    which = f"seed {e.seed}, fold {e.fold}, {e.trial.model.size} pixels"  # the folder's name only has a hash
    which += f", {measured}" if (measured := described(run)) else ""
    head = Text(f"{e.sweep}: {run.path} (stage {s.stage}; {where}; {which})", style="bold")
    if active and s.stage not in (SEARCH, "done"):
        parts.insert(0, Text(" ".join(stage_line(s))))
    parts = [head, *parts, table(s)]
    for c in s.classes:
        if options.trials or options.label == c.label:
            parts += [Text(f"\n{c.label}", style="bold"), trial_table(c)]
    return parts, ended


def job_table(states: list[JobState]) -> Table:
    """A row per Slurm job of the sweep; if there are many, equal jobs of a class share a row."""
    if len(states) > MANY:
        counts = Counter((s.job.rpartition("-")[0] or s.job, s.state, s.why) for s in states)
        rows = [(f"{n} x {job}", "", state, "", "", "", why) for (job, state, why), n in counts.items()]
    else:
        rows = [(s.job, s.id, s.state, str(s.restarts or ""), s.left, s.node, s.why) for s in states]
    t = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "id", "state", "restarts", "time left", "node", "why"):
        t.add_column(name, justify="right" if name in ("restarts", "time left") else "left")
    for job, number, state, *rest in rows:
        t.add_row(job, number, Text(state, style=STYLES.get(state, "")), *rest)
    return t
