"""Large sweeps: planning, status of thousands of trials, submission of thousands of jobs.

    python tests/bench/bench_scale.py            planning and status
    python tests/bench/bench_scale.py --slurm    and held submission, to the testbed that is up

Plans 7 classes x 1,000 trials, reads a folder of 10,000 trials as `hpc/status.py` does, and submits 7,000
held jobs of a grid, counting what Slurm is asked, before it cancels them.
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
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hpc.plan.sweep_plan import Plan, make_plan  # noqa: E402
from hpc.settings.compose import compose, save  # noqa: E402
from skin_gan.data.resolve import describe  # noqa: E402

CLIENTS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun")
WORDS = ("sweep=aegan_lr", "data=demo", "budget=micro", "backend=array", "search.scheduler=none")


def plan_of(results: Path, trials: int) -> Plan:
    e = compose([*WORDS, f"results={results}", f"search.trials={trials}"])
    return make_plan(e, describe(e.data, results))


def planning(results: Path, trials: int) -> None:
    start = time.perf_counter()
    plan = plan_of(results, trials)
    folders = {folder.path for label in plan.experiment.classes for _, folder in plan.trials(label)}
    seconds = time.perf_counter() - start
    print(f"planning {len(folders)} trials: {seconds:.2f} s, {3 / seconds:.1f} times faster than 3 s")


def status(results: Path, trials: int) -> None:
    """What one look at a sweep costs whose trials have all begun."""
    plan = plan_of(results, -(-trials // 7))
    plan.run.jobs.mkdir(parents=True)
    save(replace(plan.experiment, backend="ray"), plan.run.settings)
    count = 0
    for label in plan.experiment.classes:
        for _, folder in plan.trials(label):
            folder.path.mkdir(parents=True)
            state = {"state": "running", "reason": "", "kimg": 1.5, "target": 36.0, "best_kid": 50.0 + count}
            folder.state_file.write_text(json.dumps(state))
            count += 1
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "hpc" / "status.py"), str(plan.run.path)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"status of {count} trials: {seconds:.2f} s, {3 / seconds:.1f} times faster than 3 s; {memory:.0f} MB"
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
    parser.add_argument("--folders", type=int, default=10_000, help="for status")
    parser.add_argument("--slurm", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        planning(Path(folder), options.trials)
        status(Path(folder), options.folders)
        if options.slurm:
            submission(Path(folder), options.trials)


if __name__ == "__main__":
    main()
