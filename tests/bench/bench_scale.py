"""Large sweeps: planning, what a launch reads of thousands of trials, submission of thousands of jobs.

    python tests/bench/bench_scale.py            planning, launches and status
    python tests/bench/bench_scale.py --slurm    and held submission, to the testbed that is up

Plans 7 classes x 1,000 trials. Makes a sweep of 10,003 trials that have all ended, and counts the calls to
the file system that a dry run, a launch and status make in its folder. Submits 7,000 held jobs of a grid,
counting what Slurm is asked, before it cancels them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hpc.plan.sweep_plan import Plan, make_plan  # noqa: E402
from hpc.settings.compose import compose, save  # noqa: E402
from hpc.state.completion import inputs  # noqa: E402
from hpc.state.snapshot import snapshot  # noqa: E402
from skin_gan.data.resolve import describe  # noqa: E402
from skin_gan.io import write_json  # noqa: E402

CLIENTS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun")
WORDS = ("sweep=aegan_lr", "data=demo", "budget=micro", "backend=array", "search.scheduler=none")


def plan_of(results: Path, trials: int, *words: str) -> Plan:
    e = compose([*WORDS, f"results={results}", f"search.trials={trials}", *words])
    return make_plan(e, describe(e.data, results))


def planning(results: Path, trials: int) -> None:
    start = time.perf_counter()
    plan = plan_of(results, trials)
    folders = {folder.path for label in plan.experiment.classes for _, folder in plan.trials(label)}
    seconds = time.perf_counter() - start
    print(f"planning {len(folders)} trials: {seconds:.2f} s, {3 / seconds:.1f} times faster than 3 s")


# Counts calls by their kind and path, runs a script, and writes the counts of one folder to a file.
COUNTING = """
import json, os, resource, runpy, sys
from collections import Counter
folder, out, script, *words = sys.argv[1:]
calls = Counter()

def count(kind, path):
    if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(folder):
        calls[kind, os.fspath(path)] += 1

def counted(call):
    def stat(path, *more, **options):
        count("stat", path)
        return call(path, *more, **options)
    return stat

os.stat, os.lstat = counted(os.stat), counted(os.lstat)
KINDS = {"open": "open", "os.scandir": "list", "os.listdir": "list"}
sys.addaudithook(lambda event, args: event in KINDS and count(KINDS[event], args[0]))
sys.argv = [script, *words]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    with open(out, "w") as file:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        json.dump([memory, [[*call, times] for call, times in calls.items()]], file)
"""


def ended_sweep(results: Path, trials: int, backend: str) -> Plan:
    """A sweep all of whose trials and stages have ended, made as if it had been run."""
    plan = plan_of(results, trials, f"backend={backend}")
    plan.run.jobs.mkdir(parents=True)
    save(plan.experiment, plan.run.settings)
    write_json(plan.run.provenance, {"data": {"fingerprint": plan.data}})
    plan.run.leaderboard.touch()
    last = plan.experiment.search.rungs[-1]
    for label in plan.experiment.classes:
        for spec, folder in plan.trials(label):
            folder.path.mkdir(parents=True)
            state = {"state": "completed", "reason": "", "kimg": last, "target": last, "best_kid": spec.index}
            folder.state_file.write_text(json.dumps(state))
    s = snapshot(plan.run)
    for job in (job for stage in plan.stages for job in stage.jobs):
        entry = {"state": "done", "classes": plan.experiment.classes, "inputs": inputs(plan, job, s)}
        (plan.run.jobs / f"{job.name}.json").write_text(json.dumps(entry))
    return plan


def cpu_seconds() -> float:
    """What the processes that have ended took of all cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def launches(results: Path, trials: int, backend: str) -> None:
    """Calls and seconds of a dry run, a launch with nothing left to do, and status."""
    plan = ended_sweep(results, -(-trials // 7), backend)
    folders = sum(len(plan.trials(label)) for label in plan.experiment.classes)
    words = [*WORDS, f"results={results}", f"search.trials={-(-trials // 7)}", f"backend={backend}"]
    for what, script, arguments in (
        ("dry run", "launch.py", [*words, "dry_run=true"]),
        ("launch", "launch.py", words),
        ("status", "status.py", [str(plan.run.path)]),
    ):
        command = [str(ROOT / "hpc" / script), *arguments]
        subprocess.run([sys.executable, *command], capture_output=True, check=True)  # draws the data, freezes
        start, cpu = time.perf_counter(), cpu_seconds()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
        out = results / "calls.json"
        counting = [sys.executable, "-c", COUNTING, str(plan.run.path), str(out), *command]
        subprocess.run(counting, capture_output=True, check=True)
        memory, calls = json.loads(out.read_text())
        kinds = {k: sum(n for kind, _, n in calls if kind == k) for k in ("open", "list", "stat")}
        most = max(n for kind, _, n in calls if kind == "open")
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        print(
            f"{what} of {folders} trials, backend {backend}: {seconds:.2f} s, {cpu:.2f} s of CPU, "
            f"{memory:.0f} MB; {sum(kinds.values())} calls ({counts}), at most {most} opens of one file"
        )


def submission(results: Path, trials: int) -> None:
    """The real command, with Slurm's clients counted."""
    log, folder = results / "calls", results / "bin"
    folder.mkdir()
    for name in CLIENTS:
        script = f'#!/bin/sh\necho {name} >> {log}\nexec {shutil.which(name)} "$@"\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    words = [*WORDS, f"results={results}/sweep", f"search.trials={trials}", "cluster=testbed"]
    launch = ["launch.py", *words, "profile.extra={hold: true}"]
    run = counted(f"submission of 7 x {trials} held jobs", launch, env, log).splitlines()[-1]
    run = run.removeprefix("results: ")
    counted("status of them", ["status.py", run], env, log)
    counted("cancelling them", ["steer.py", "cancel", run], env, log)


def counted(what: str, words: list[str], env: dict[str, str], log: Path) -> str:
    log.write_text("")
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "hpc" / words[0]), *words[1:]]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    calls = ", ".join(f"{n} {name}" for name, n in sorted(Counter(log.read_text().split()).items()))
    print(f"{what}: {time.perf_counter() - start:.1f} s; calls: {calls}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000, help="per class")
    parser.add_argument("--folders", type=int, default=10_003, help="trials for launches and status")
    parser.add_argument("--slurm", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        planning(Path(folder), options.trials)
        for backend in ("ray", "array"):
            launches(Path(folder, backend), options.folders, backend)
        if options.slurm:
            submission(Path(folder), options.trials)


if __name__ == "__main__":
    main()
