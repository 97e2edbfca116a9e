"""The command launch, and what all commands share. No torch, so that `--help` is fast."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from hpc import fault_of_package
from hpc.cli.conclusion import conclude
from hpc.cli.cost import Estimate, check_limits, estimate
from hpc.cli.progress import Clock, display, line
from hpc.cli.settings_help import help_on
from hpc.cli.summary import print_more, print_summary
from hpc.plan.ablation import sizes
from hpc.plan.sweep_plan import Plan, make_plan
from hpc.settings.combinations import combinations, varied
from hpc.settings.compose import CHOICES, CLUSTER, Experiment, changes, compose, load, overridden
from hpc.slurm import client
from hpc.slurm.job_states import Queue, job_states
from hpc.state.completion import complete, of_earlier_version
from hpc.state.endpoints import power_lines
from hpc.state.limits import GB, device_hours, reached, size
from hpc.state.provenance import code_of, commit, record_launch
from hpc.state.snapshot import Snapshot, of_plan, snapshot
from hpc.state.submissions import Submission
from skin_gan import __version__
from skin_gan.data.store import Store
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.installation import IN_CHECKOUT, called
from skin_gan.io import lock, locked
from skin_gan.presets import PRESETS

AT_LIMIT = 3  # exit code of a launch whose sweep has stopped itself at a limit
MANY = 20  # elements of an array that are listed one by one; more are counted
EXAMPLES = """\
examples
  LAUNCH sweep=aegan_lr dry_run=true              show what it would do, and the cost
  LAUNCH sweep=aegan_lr data=demo budget=demo     built-in data, minutes
  LAUNCH sweep=aegan_lr data=results/stores/ham10000 budget=short
  LAUNCH sweep=dcgan_lr 'classes=[df,vasc]' trial.optim.d_steps=2 search.trials=16

  LAUNCH sweep=dcgan_lr 'seed=[0,1,2]' 'preset=[dcgan,flow]'   six sweeps, and a table

The same command again resumes the sweep; with more trials or longer rungs it extends it.
Any setting of sweeps/NAME.yaml can be given as a dotted key; show=settings prints the settings that result,
show=scripts,jobs the sbatch scripts and the jobs."""


def run_command(command: Callable[[list[str]], int]) -> int:
    """Run a command line: an error for the user becomes one line and exit code 2, Ctrl-C becomes 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # Background jobs of shell scripts ignore SIGINT. A handler, unlike SIG_IGN, is not inherited by
        # children, which are stopped by SIGINT.
        signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return command(sys.argv[1:])
    except SkinGanError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except (ImportError, AttributeError, SyntaxError) as e:
        if (fault := fault_of_package(e)) is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has closed the pipe
        return 0


def make_console() -> Console:
    """Standard output without markup, since messages have brackets; long lines unless it is a terminal."""
    console = Console(soft_wrap=True, markup=False)
    return console if console.is_terminal else Console(width=240, soft_wrap=True, markup=False)


def launch(words: list[str]) -> int:
    """Plan a sweep, run or resume it, and print the path of its results."""
    asked = next((i for i, word in enumerate(words) if word in ("-h", "--help")), None)
    if not words or asked is not None:
        keys = [word for word in words[asked or 0 :] if not word.startswith("-")]
        print("\n\n".join(map(help_on, keys)) or launch_help())
        return 0 if words else 2
    if {"-V", "--version"} & set(words):
        print(version())
        return 0
    console = make_console()
    if not (places := varied(words)):
        return begin(console, planned(words))
    return begin_all(console, words, places)


@dataclass(frozen=True)
class Planned:
    """A sweep that was found to be without fault; nothing of it has been written."""

    words: list[str]  # of its command line
    plan: Plan
    store: Store  # maybe yet to be drawn or ingested
    data: str  # the value of data=
    reachable: bool  # whether Slurm was reached
    show: list[str]  # what to print besides the summary
    notes: list[str]  # to be printed with it


def planned(words: list[str]) -> Planned:
    """Compose, plan and validate the sweep of a command line. SkinGanError for any fault."""
    from hpc.cli.checks import check_launch
    from skin_gan.data.resolve import describe

    e = compose(words)
    if e.profile.kind == "slurm":
        client.adopt(e.profile)
    notes = overridden(words)
    reachable = e.profile.kind != "slurm" or check_cluster(e, notes)
    show, e.show = e.show, []
    store = describe(e.data, Path(e.results), sizes(e.ablate, e.trial.model.size))
    data, e.data = e.data, "demo" if store.kind == "demo" else str(store.path)
    plan = make_plan(e, store)
    check_launch(plan, store)
    notes += power_lines(plan.experiment.ablate, store)
    return Planned(words, plan, store, data, reachable, show, notes)


def begin_all(console: Console, words: list[str], places: list[int]) -> int:
    """Run several sweeps, here one after another; returns the worst exit code.

    SkinGanError before anything is written if one has a fault. `places`: of the words that differ.
    """
    from hpc.cli.compare import as_table, compared

    sweeps = []
    for each in combinations(words):
        name = " ".join(each[i] for i in places)
        try:
            sweeps.append((name, planned(each)))
        except SkinGanError as e:
            raise SkinGanError(f"{name}: {e}; no sweep was begun") from e
    runs = {sweep.plan.run.path: sweep.plan.run for _, sweep in sweeps}
    if len(runs) < len(sweeps):
        raise SkinGanError(f"{' '.join(words)}: some of these {len(sweeps)} sweeps are one and the same")
    codes = []
    for number, (name, sweep) in enumerate(sweeps, 1):
        console.print(f"\nsweep {number} of {len(sweeps)}: {name}", style="bold", highlight=False)
        try:
            codes.append(begin(console, sweep))
        except SkinGanError as e:  # the others go on
            print(f"error: {e}", file=sys.stderr)
            codes.append(2)
    begun = [run for run in runs.values() if run.settings.exists()]
    if begun and not sweeps[0][1].plan.experiment.dry_run:
        console.print("\nall sweeps", style="bold")
        console.print(as_table([compared(run) for run in begun]))
        for run in begun:
            print(f"results: {run.path}")
    return max(codes)


def begin(console: Console, sweep: Planned) -> int:
    """Run or resume a sweep, or show its plan; returns the exit code."""
    from hpc.cli.checks import check_classes, data_line
    from hpc.cluster import reconcile
    from skin_gan.data.resolve import resolve

    words, plan, store, show, notes = sweep.words, sweep.plan, sweep.store, sweep.show, sweep.notes
    e, about_data = plan.experiment, data_line(store, sweep.data)
    if e.dry_run:
        before = load(plan.run.settings) if plan.run.settings.exists() else None
        if sweep.reachable:
            reconcile.check_place(plan, before)
        s = of_plan(plan)
        cost, used = estimate(plan, store, s, before, timed=True), device_hours(s)
        print_summary(console, plan, about_data, cost, used, notes, resumed=before is not None)
        print_more(console, plan, show)
        for warning in check_limits(e, cost, used, disk_used(plan)):
            console.print(warning, style="yellow")
        return 0
    timed = refuse_beyond_limits(plan, store, notes)
    store = resolve(e.data, sizes(e.ablate, e.trial.model.size), Path(e.results))
    check_classes(plan, store)  # built-in data could not be checked before it was drawn
    with attach(console, plan.run, plan.experiment) as before:
        reconcile.check_place(plan, before)
        code = record_launch(plan, store, words, before)
        queue, s = reconcile.read_sweep(plan)
        cost = timed or estimate(plan, store, s, before, timed=False)
        print_summary(console, plan, about_data, cost, device_hours(s), notes, resumed=before is not None)
        print_more(console, plan, show)
        print_ended(console, plan, queue, s)
        return carry_out(console, plan, code, queue, s)


def refuse_beyond_limits(plan: Plan, store: Store, notes: list[str]) -> Estimate | None:
    """The cost of a sweep with limits, None without; warnings go to `notes`. SkinGanError beyond them."""
    limit = plan.experiment.limit
    if not (limit.device_hours or limit.disk):
        return None
    before = load(plan.run.settings) if plan.run.settings.exists() else None
    s = of_plan(plan)
    cost = estimate(plan, store, s, before, timed=True)
    notes += check_limits(plan.experiment, cost, device_hours(s), disk_used(plan))
    return cost


def disk_used(plan: Plan) -> float:
    """GB that the sweep's folder holds; 0 without a limit, since looking takes time."""
    return size(plan.run.path) / GB if plan.experiment.limit.disk else 0.0


def print_ended(console: Console, plan: Plan, queue: Queue, s: Snapshot) -> None:
    """Print why Slurm's jobs ended that will be submitted again."""
    todo = {job.name for stage in plan.stages for job in stage.jobs if not complete(plan, job, s)}
    if not todo & queue.latest.keys():
        return
    ended = [x for x in job_states(plan.run, queue, s.records) if x.job in todo and not x.alive and x.why]
    for x in ended[:MANY]:
        console.print(f"{x.job} (job {x.id}) {x.state}: {x.why}", highlight=False)
    if len(ended) > MANY:
        console.print(f"and {len(ended) - MANY} more: see {called('status')}")


def version() -> str:
    """The version, and in a checkout the commit."""
    return f"skin-gan {__version__}" + (f" ({code_of(commit())})" if IN_CHECKOUT else "")


def check_cluster(e: Experiment, notes: list[str]) -> bool:
    """Validate the profile against the cluster; warnings go to `notes`. Raises Unreachable if Slurm is.

    A dry run goes on without Slurm. Returns whether Slurm was reached.
    """
    try:
        client.use(e.profile)
        client.queue(Path(e.results))
        client.check_limits(e.profile)
    except client.Unreachable as error:
        if not e.dry_run:
            raise
        notes.append(f"warning: not checked against the cluster: {error}")
        return False
    e.profile.conf = os.environ.get(client.CONF, "")  # for later shells
    notes += [f"warning: {warning}" for warning in client.warnings(e)]
    return True


def launch_help() -> str:
    """The text of `--help`."""

    def listing(key: str) -> str:
        choice = CHOICES[key]
        rows = [(name, summary(choice.path(key, name))) for name in choice.names()]
        return "\n".join(f"  {key}={name:<18} {about}" for name, about in rows)

    keys = ", ".join(f for f in Experiment.__dataclass_fields__ if f not in ("about", "sweep"))
    return "\n\n".join(
        [
            f"usage: {called('launch')} sweep=NAME [key=value ...], or --help [KEY ...], or --version",
            "Search GAN settings for each lesion class, and export the best generators.",
            "sweeps\n" + listing("sweep"),
            "budgets\n" + listing("budget"),
            f"clusters (default: ${CLUSTER}, else local)\n" + listing("cluster"),
            f"presets\n  preset={', '.join(PRESETS)}",
            "data\n  data=auto (an ingested store, else built-in), demo (built-in, not medical), or a\n"
            "  store's path; `python -m skin_gan.data ingest --help` makes a store from HAM10000",
            f"keys\n  {keys}\n"
            "  --help KEY explains one, such as --help trial.optim.lr_g, or a group, such as --help search;\n"
            "  --help all explains all",
            EXAMPLES.replace("LAUNCH", called("launch")),
        ]
    )


def summary(path: Path) -> str:
    """The first line of a YAML file's header comment."""
    return path.read_text().splitlines()[0].lstrip("# ")


@contextmanager
def attach(console: Console, run: RunFolder, asked: Experiment | None = None) -> Iterator[Experiment | None]:
    """Hold the sweep's launch lock; while another launch holds it, show that launch's progress.

    Prints how the settings `asked` for differ from those of the last launch, and yields the latter.
    """
    path = run.path / "launch.lock"
    later = "it runs with other settings; when it has ended, this launch goes on with: "
    printed = asked is None
    while True:
        with lock(path, wait=0.5) as held:  # `locked` holds the lock for a moment, too
            if held is not None:
                before = load(run.settings) if asked and run.settings.exists() else None
                if not printed:
                    print_changes(console, before, asked, "changed since the last launch: ")
                yield before
                return
        console.print(f"this sweep is running already: attached to it ({run.path})")
        with watching(console, run) as watch:
            while locked(path):
                if run.settings.exists():  # else that launch has only just begun
                    if not printed:
                        print_changes(console, load(run.settings), asked, later)
                        printed = True
                    watch()
                time.sleep(0.5)


def print_changes(console: Console, before: Experiment | None, asked: Experiment | None, head: str) -> None:
    """Print the settings in which `asked` differs from `before`, after `head`, if there are any."""
    if asked and before and (changed := changes(before, asked)):
        console.print(head + ", ".join(changed), highlight=False)


def carry_out(
    console: Console, plan: Plan, code: Path, queue: Queue, s: Snapshot, names: Container[str] | None = None
) -> int:
    """Run the unfinished jobs of the plan, or those of these names, here or on the cluster."""
    from hpc.cluster import executor, reconcile

    jobs = [job for stage in plan.stages for job in stage.jobs if names is None or job.name in names]
    failures: list[str] = []
    stopped = ""  # the limit that is reached
    if earlier := [job.name for job in jobs if of_earlier_version(job, s)]:
        console.print(
            f"run again, since records of an earlier version lack the jobs' inputs: {earlier[0]}"
            + (f" and {len(earlier) - 1} more jobs" if len(earlier) > 1 else "")
            + "; trained networks are kept"
        )
    if all(complete(plan, job, s) for job in jobs):
        console.print("every trial of this sweep has ended: nothing left to do")
    elif plan.experiment.profile.kind == "slurm":
        queued, new = reconcile.submit(plan, jobs, code, queue, s)
        print_submitted(console, plan, queued, new)
        print(f"results: {plan.run.path}")
        return 0
    else:
        console.print(f"{plan.experiment.sweep} on {plan.experiment.data}: {plan.run.path}")
        with watching(console, plan.run) as watch:
            failures = executor.run_local(plan, jobs, code, watch, s)
        now = of_plan(plan)
        stopped = "" if all(complete(plan, job, now) for job in jobs) else reached(plan.run)
    conclude(console, plan)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if stopped:
        print(f"stopped: {stopped}; launch again with a larger limit to go on", file=sys.stderr)
    print_notified(console, plan)
    print(f"results: {plan.run.path}")
    return 1 if failures else AT_LIMIT if stopped else 0


def print_notified(console: Console, plan: Plan) -> None:
    """Run the command `notify`, and print what came of it."""
    from hpc.jobs.notify import notify

    if said := notify(plan):
        console.print(said, highlight=False)


def print_submitted(console: Console, plan: Plan, queued: list[Submission], new: list[Submission]) -> None:
    """Print the jobs' ids, and how to watch and steer them."""
    for verb, jobs in (("queued already", queued), ("submitted", new)):
        arrays = Counter(s.base for s in jobs)
        for s in jobs:
            if arrays[s.base] <= MANY:
                console.print(f"{verb}: {s.job} is job {s.id}", highlight=False)
        for base, count in arrays.items():
            if count > MANY:
                console.print(f"{verb}: {count} jobs are array {base}", highlight=False)
    if not new:
        console.print("nothing new to submit: attached to the jobs above")
    if plan.experiment.notify:
        console.print("notify: by the sweep's last job, on its node", highlight=False)
    console.print(f"watch:  {called('status')} {plan.run.path} --watch")
    console.print(f"steer:  {called('steer')} cancel|hold|release|retry {plan.run.path}")


@contextmanager
def watching(console: Console, run: RunFolder) -> Iterator[Callable[[], None]]:
    """Yield a function that shows the sweep's progress; it may be called at any rate.

    A terminal shows a live table; otherwise a line is printed every 15 s and at each change of stage.
    """
    clock = Clock()
    read, printed, stage = 0.0, 0.0, ""
    # Reading takes some 50 ms of a processor that may be training.
    interval = 1.0 if console.is_terminal else 5.0

    def show(live: Live | None) -> None:
        nonlocal read, printed, stage
        now = time.monotonic()
        if now < read + interval:
            return
        read, s = now, snapshot(run)
        left = clock.left(s)
        if live:
            live.update(display(s, left), refresh=True)
        elif s.stage != stage or now > printed + 15.0:
            console.print(time.strftime("%H:%M:%S"), line(s, left), markup=False, highlight=False)
            printed, stage = now, s.stage

    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda: show(live)
    else:
        yield lambda: show(None)
