"""Prints what a launch or dry run is about: at most 25 lines of 80 columns, and more on demand. No torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.console import Console

from hpc.cli.cost import Cost, Estimate
from hpc.cli.progress import duration
from hpc.plan.sweep_plan import SEARCH, Plan, slots
from hpc.settings.compose import Experiment
from hpc.state.provenance import code_folder

WIDTH = 79
ROWS = 5  # stages with a row of their own, where there are some more
MORE = "more: show=scripts,jobs,settings"


def print_summary(
    console: Console,
    plan: Plan,
    data: str,
    cost: Estimate | None,
    used: float,
    notes: list[str],
    resumed: bool,
) -> None:
    """Print what is searched, on what, where, and what is left to pay.

    `data`: a line about the data; `used`: device-hours so far; `notes`: remarks and warnings; `resumed`:
    whether the sweep's folder exists.
    """
    for line in [*lines(plan, data, cost, used, resumed), *notes, *plan.notes, MORE]:
        style = "yellow" if line.startswith("warning: ") else ""
        for part in wrapped(line):
            console.print(part, style=style, highlight=False)


def wrapped(line: str) -> list[str]:
    """A line in parts of at most 79 columns; paths stay whole, and rows of a table as they are."""
    if line.startswith("  "):
        return [line]
    return textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def lines(plan: Plan, data: str, cost: Estimate | None, used: float, resumed: bool) -> Iterator[str]:
    """The summary's lines."""
    e = plan.experiment
    yield textwrap.shorten(f"{e.sweep}, seed {e.seed}, fold {e.fold}: {e.about or e.preset}", WIDTH)
    yield data
    yield trials_line(e)
    if plan.proposed_later:
        yield (
            f"{plan.proposed_later} of {len(e.classes) * e.search.trials} trials are proposed later by "
            f"{e.search.sampler}, from what the others will have shown"
        )
    yield f"where: {place(e)}"
    yield from cost_table(plan, cost)
    if cost is None:
        yield (
            "speed: none is known yet: dry_run=true times this machine, if the sweep runs on it; "
            "profile.images_per_second assumes one"
        )
    elif cost.source:
        yield f"speed: {cost.source}"
    if used:
        yield f"used so far: {used:.3g} device-hours"
    if limits := [f"{word} {value:g}" for word, value in vars(e.limit).items() if value]:
        yield f"limit: {', '.join(limits)}"
    yield f"folder: {plan.run.path}{' (exists: would resume)' if resumed else ''}"


def trials_line(e: Experiment) -> str:
    """How much is searched."""
    s = e.search
    way = "halving" if s.scheduler == "asha" and len(s.rungs) > 1 else "measured"
    return (
        f"{len(e.classes)} classes ({', '.join(e.classes)}) x {s.trials} trials of {e.trial.model.family} at "
        f"{e.trial.model.size} pixels, {way} at {', '.join(f'{rung:g}' for rung in s.rungs)} kimg"
    )


def place(e: Experiment) -> str:
    """Where the sweep runs."""
    p, n = e.profile, slots(e)
    trials = f"{n} trial{'s' if n > 1 else ''} at a time"
    number = f"{p.gpus_per_node} GPU{'s' if p.gpus_per_node > 1 else ''}" if p.gpus_per_node else "no GPU"
    devices = p.gres or number
    if p.kind == "local":
        return f"this machine, {devices}, {trials}"
    rest = f" (jobs without GPU: {p.cpu_partition})" if p.cpu_partition else ""
    nodes = f" on each of {p.nodes} nodes" if p.nodes > 1 else ""
    return (
        f"cluster {e.cluster}, partition {p.partition or 'by default'}{rest}: {p.parallel} jobs at a time "
        f"with {devices}, {p.cpus_per_task} cores and {trials}{nodes}"
    )


def cost_table(plan: Plan, cost: Estimate | None) -> Iterator[str]:
    """A row per stage with something left to do, the cheapest of many in one, and the sum."""
    yield "  stage      jobs  device-hours     wall time     disk    files"
    if cost is None:
        for stage in plan.stages:
            yield f"  {stage.name:<9}{len(stage.jobs):>6}"
        return
    left = {name: part for name, part in cost.stages.items() if part.jobs}
    by_cost = sorted(left, key=lambda name: left[name].device_hours, reverse=True)
    light = [name for name in left if name in by_cost[ROWS:]] if len(left) > ROWS + 2 else []
    for name, part in left.items():
        if name not in light:
            yield row(name, part)
    if light:
        yield row("others", sum((left[name] for name in light), Cost()))
    yield row("in all", cost.total)


def row(name: str, c: Cost) -> str:
    """A row of the table."""
    disk = f"{c.bytes / 1e9:.1f} GB" if c.bytes >= 1e8 else f"{c.bytes / 1e6:.0f} MB"
    wall = duration(60 * round(c.wall_hours * 60) if c.wall_hours > 0.2 else c.wall_hours * 3600)
    return f"  {name:<9}{c.jobs:>6}{c.device_hours:>14.2f}{wall:>14}{disk:>9}{c.files:>9.0f}"


def print_more(console: Console, plan: Plan, show: list[str]) -> None:
    """Print what `show` names: sbatch scripts, the list of jobs, the resolved settings."""
    from omegaconf import OmegaConf

    if "settings" in show:
        print(OmegaConf.to_yaml(OmegaConf.structured(plan.experiment)))
    if "scripts" in show and plan.experiment.profile.kind != "slurm":
        console.print("no scripts: the sweep runs on this machine")
    elif "scripts" in show:
        from hpc.cluster import executor

        for stage in plan.stages:
            for name, script in executor.scripts(plan, stage, code_folder(plan.run)).items():
                print(f"--- sbatch script of stage {name}\n{script}")
    if "jobs" in show:
        for stage in plan.stages:
            after = f", after {', '.join(stage.after)}" if stage.after else ""
            trials = f", {plan.experiment.search.trials} trials per class" if stage.name == SEARCH else ""
            console.print(f"{stage.name}: {len(stage.jobs)} jobs{trials}{after}", highlight=False)
            for job in stage.jobs:
                console.print(f"  {job.name}{f', {job.kimg:g} kimg' if job.kimg else ''}", highlight=False)
