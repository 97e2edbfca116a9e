"""The command lines behind the scripts in hpc/. Starts without torch: `--help` answers at once."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from hpc import config, progress
from hpc.config import CHOICES, ROOT, Experiment, compose
from hpc.plan import Plan, expected_kimg, make_plan, reopen
from skin_gan.errors import SkinGanError
from skin_gan.presets import PRESETS
from skin_gan.run import RunFolder, append_jsonl, lock, locked, read_json, write_json

EXAMPLES = """\
examples
  python hpc/launch.py sweep=aegan_lr dry_run=true              what it would do, and what that costs
  python hpc/launch.py sweep=aegan_lr data=demo budget=demo     built-in data, minutes
  python hpc/launch.py sweep=aegan_lr data=results/stores/ham10000 budget=short
  python hpc/launch.py sweep=dcgan_lr 'classes=[df,vasc]' trial.optim.d_steps=2 search.trials=16

The same command again goes on where it stopped; with more trials or longer rungs it extends the sweep.
Any setting of sweeps/NAME.yaml can be given as a dotted key; dry_run=true shows the settings that result."""


def run_command(command: Callable[[list[str]], int]) -> int:
    """Run a command line: an error for the user becomes one line and exit code 2, Ctrl-C becomes 130."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A script's background job ignores SIGINT, and so would its children, which are stopped with it.
        signal.signal(signal.SIGINT, _pass)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        return command(sys.argv[1:])
    except SkinGanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: not an error
        return 0


def _pass(*_: object) -> None:
    """Ignore the signal, as an ignored one is, but without children inheriting that."""


def make_console() -> Console:
    """Standard output; where that is no terminal, lines are as long as they need to be."""
    console = Console(soft_wrap=True)
    return console if console.is_terminal else Console(width=240, soft_wrap=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def launch(words: list[str]) -> int:
    """`hpc/launch.py`: plan a sweep, run it or go on with it, and say where the results are."""
    if not words or {"-h", "--help"} & set(words):
        print(launch_help())
        return 0 if words else 2
    e = compose(words)
    from skin_gan.data.resolve import describe, resolve

    console = make_console()
    if e.dry_run:
        print_plan(console, make_plan(e, describe(e.data, Path(e.results))))
        return 0
    store = resolve(e.data, [e.trial.model.size], Path(e.results))
    plan = make_plan(replace(e, data="demo" if store.kind == "demo" else str(store.path)), store)
    with attach(console, plan.run):
        check_classes(plan, store)
        record_launch(plan, store, words)
        return carry_out(console, plan)


def launch_help() -> str:
    def listing(key: str) -> str:
        choice = CHOICES[key]
        rows = [(name, summary(choice.folder / f"{name}.yaml")) for name in choice.names()]
        return "\n".join(f"  {key}={name:<18} {about}" for name, about in rows)

    keys = ", ".join(f for f in Experiment.__dataclass_fields__ if f not in ("about", "sweep"))
    return "\n\n".join(
        [
            "usage: python hpc/launch.py sweep=NAME [key=value ...]",
            "Search GAN settings for each lesion class, pick the best generators, and say where they are.",
            "sweeps\n" + listing("sweep"),
            "budgets\n" + listing("budget"),
            "clusters\n" + listing("cluster"),
            f"presets\n  preset={', '.join(PRESETS)}",
            "data\n  data=auto (an ingested store, else built-in), demo (built-in, not medical), or a\n"
            "  store's path; `python -m skin_gan.data ingest --help` makes a store from HAM10000",
            f"keys\n  {keys}",
            EXAMPLES,
        ]
    )


def summary(path: Path) -> str:
    """The first line of a YAML file's header comment."""
    return path.read_text().splitlines()[0].lstrip("# ")


def attach(console: Console, run: RunFolder) -> Any:
    """The sweep's launch lock, once it is free; until then the progress of the launch that holds it."""
    path = run.path / "launch.lock"
    if locked(path):
        console.print(f"this sweep is running already: attached to it ({run.path})")
        with watching(console, run) as watch:
            while locked(path):
                watch()
                time.sleep(0.5)
    return lock(path, wait=10.0)


def check_classes(plan: Plan, store: Any) -> None:
    """Stop now, not in a job, for a class that is too small to train on."""
    from skin_gan.data.store import class_split

    for label in plan.experiment.classes:
        class_split(store, label, plan.experiment.trial.model.size, plan.experiment.fold)


def record_launch(plan: Plan, store: Any, words: list[str]) -> None:
    """Save the resolved settings and where they came from, before any work starts."""
    plan.run.jobs.mkdir(parents=True, exist_ok=True)
    before = config.load(plan.run.settings) if plan.run.settings.exists() else None
    if before != plan.experiment:
        config.save(plan.experiment, plan.run.settings)
    write_json(plan.run.provenance, provenance(plan, store))
    append_jsonl(plan.run.path / "launches.jsonl", {"time": time.time(), "words": words, **commit()})


def provenance(plan: Plan, store: Any) -> dict[str, Any]:
    from importlib.metadata import version

    packages = ("torch", "torchvision", "accelerate", "ray", "submitit", "timm", "numpy")
    return {
        "sweep": plan.run.path.name,
        "data": {
            "name": store.name, "kind": store.kind, "fingerprint": store.fingerprint, "unit": store.unit,
            "partial": store.partial, "counts": store.counts, "notes": store.notes,
        },
        **commit(),
        "machine": {"host": socket.gethostname(), "system": platform.platform(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }  # fmt: skip


def commit() -> dict[str, Any]:
    """The checkout's git commit, and whether files differ from it; empty outside git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    return {"commit": head, "modified": bool(git("status", "--porcelain"))} if head else {"commit": None}


def carry_out(console: Console, plan: Plan) -> int:
    from hpc import cluster

    jobs = [job for stage in plan.stages for job in stage.jobs]
    if all(cluster.complete(plan, job) for job in jobs):
        console.print("every trial of this sweep has ended: nothing left to do")
        failures = []
    else:
        console.print(f"{plan.experiment.sweep} on {plan.experiment.data}: {plan.run.path}")
        with watching(console, plan.run) as watch:
            failures = cluster.run_local(plan, watch)
    conclude(console, plan)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    print(f"results: {plan.run.path}")
    return 1 if failures else 0


@contextmanager
def watching(console: Console, run: RunFolder) -> Iterator[Callable[[], None]]:
    """Yields a function that shows the sweep's progress, to be called as often as one likes.

    On a terminal that is a live table; elsewhere a line every 15 seconds and at each change of stage.
    """
    clock = progress.Clock()
    looked, printed, stage = 0.0, 0.0, ""

    def show(live: Live | None) -> None:
        nonlocal looked, printed, stage
        now = time.monotonic()
        if now < looked + 1.0:
            return
        looked, s = now, progress.snapshot(run)
        left = clock.left(s)
        if live:
            live.update(progress.display(s, left), refresh=True)
        elif s.stage != stage or now > printed + 15.0:
            console.print(time.strftime("%H:%M:%S"), progress.line(s, left), markup=False, highlight=False)
            printed, stage = now, s.stage

    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda: show(live)
    else:
        yield lambda: show(None)


def print_plan(console: Console, plan: Plan) -> None:
    """What `dry_run=true` shows: settings, stages, jobs, trials, cost, folders."""
    from omegaconf import OmegaConf

    e, s = plan.experiment, plan.experiment.search
    print(OmegaConf.to_yaml(OmegaConf.structured(e)))
    t = Table("stage", "jobs", "trials", "kimg", "after", box=None, header_style="bold")
    for stage in plan.stages:
        kimg = sum(job.kimg for job in stage.jobs)
        trials = len(stage.jobs) * s.trials if kimg else 0
        names = f"{len(stage.jobs)}: {', '.join(j.label for j in stage.jobs)}" if kimg else "1"
        t.add_row(stage.name, names, str(trials or ""), f"{kimg:g}" if kimg else "", ", ".join(stage.after))
    console.print(t)
    console.print(f"expected per class: {expected_kimg(s):g} kimg over rungs at {s.rungs} kimg")
    console.print(f"cost: {cost(plan)}")
    console.print(f"folder: {plan.run.path}{' (exists: would go on)' if plan.run.settings.exists() else ''}")


def cost(plan: Plan) -> str:
    """Expected device-hours of training, from measured speed where there is any."""
    speed, source = plan.experiment.profile.images_per_second, "assumed in the cluster profile"
    if plan.run.settings.exists():
        s = progress.snapshot(plan.run)
        speeds = [t["images_per_second"] for c in s.classes for t in c.trials if t.get("images_per_second")]
        if speeds:
            speed, source = sum(speeds) / len(speeds), f"measured over {len(speeds)} trials of this sweep"
    if not speed:
        return f"{plan.kimg:g} kimg of training; no speed is known yet (profile.images_per_second sets one)"
    return f"{plan.kimg * 1000 / speed / 3600:.2f} device-hours of training at {speed:.0f} images/s, {source}"


def conclude(console: Console, plan: Plan) -> None:
    """The leaderboard's head, the grids, and how to look further."""
    t = Table("class", "best trial", "KID x1000", "95% interval", "real vs real", "coverage", "copies",
              "verdict", box=None, header_style="bold")  # fmt: skip
    for label in plan.experiment.classes:
        card = read_card(plan.run.best(label))
        if card is None:
            t.add_row(label, "none was evaluated")
            continue
        m, verdict = (
            card["metrics"],
            "accepted" if card["accepted"] else "vetoed: " + "; ".join(card["reasons"]),
        )
        t.add_row(label, card["trial"], f"{m['kid']:.1f}", f"{m['kid_low']:.1f} to {m['kid_high']:.1f}",
                  f"{m['kid_floor']:.1f}", f"{m['coverage']:.2f}", f"{m['copies']:.2f}", verdict)  # fmt: skip
    console.print(t)
    data = read_json(plan.run.provenance) or {}
    if data.get("data", {}).get("kind") == "demo":
        console.print("The data is the built-in drawing of lesions: this shows that the machinery works, and "
                      "nothing about skin.")  # fmt: skip
    console.print(f"leaderboard: {plan.run.leaderboard}")
    for sheet in sorted((plan.run.path / "best").glob("*/samples.png")):
        console.print(f"images: {sheet}")
    console.print(f"review: tensorboard --logdir {plan.run.path}")


def read_card(folder: Path) -> dict[str, Any] | None:
    path = folder / "generator.yaml"
    return config.read_yaml(path) if path.exists() else None


def status(arguments: list[str]) -> int:
    """`hpc/status.py`: what sweeps have reached."""
    parser = argparse.ArgumentParser(prog="python hpc/status.py", description=status.__doc__)
    parser.add_argument("run", nargs="?", type=Path, help="a sweep's folder (default: all under results/)")
    parser.add_argument("--class", dest="label", help="show each trial of this class")
    parser.add_argument("--trials", action="store_true", help="show each trial of every class")
    parser.add_argument("--watch", action="store_true", help="keep showing until interrupted")
    options = parser.parse_args(arguments)
    console = make_console()
    runs = [RunFolder(options.run)] if options.run else find_runs(ROOT / "results")
    if not runs:
        raise SkinGanError(f"no sweep under {ROOT / 'results'}: name a sweep's folder, or launch one")
    while True:
        for run in runs:
            show_status(console, run, options)
        if not options.watch:
            return 0
        time.sleep(2.0)


def find_runs(results: Path) -> list[RunFolder]:
    """Every sweep's folder under `results`, latest last."""
    found = sorted(results.glob("*/*/sweep.yaml"), key=lambda p: p.stat().st_mtime)
    return [RunFolder(p.parent) for p in found]


def show_status(console: Console, run: RunFolder, options: argparse.Namespace) -> None:
    s = progress.snapshot(run)
    if options.label and options.label not in s.experiment.classes:
        raise SkinGanError(f"unknown class {options.label}: choose one of {', '.join(s.experiment.classes)}")
    running = "a launch is running" if s.launcher else "no launch is running here"
    console.print(f"{s.experiment.sweep}: {run.path} (stage {s.stage}; {running})", style="bold")
    console.print(progress.table(s))
    for c in s.classes:
        if options.trials or options.label == c.label:
            console.print(f"\n{c.label}", style="bold")
            console.print(progress.trial_table(c))


def aggregate(arguments: list[str]) -> int:
    """`hpc/aggregate.py`: write the leaderboard anew and export the best generators."""
    parser = argparse.ArgumentParser(prog="python hpc/aggregate.py", description=aggregate.__doc__)
    parser.add_argument("run", type=Path, help="a sweep's folder")
    plan = reopen(RunFolder(parser.parse_args(arguments).run.absolute()))
    from hpc.leaderboard import write_leaderboard
    from hpc.selection import export_best

    export_best(plan, write_leaderboard(plan))
    conclude(make_console(), plan)
    print(f"results: {plan.run.path}")
    return 0
