"""Records how a sweep was made: a frozen copy of the code, commit, packages, machine, data. No torch."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from hpc.plan.sweep_plan import Plan
from hpc.settings import compose
from hpc.settings.compose import Experiment
from hpc.state import endpoints
from skin_gan.cores import cores
from skin_gan.data.store import Store
from skin_gan.folders import RunFolder
from skin_gan.installation import IN_CHECKOUT, ROOT
from skin_gan.io import append_jsonl, unwritable, write_atomic, write_json
from skin_gan.pretrained import FOLDER as WEIGHTS
from skin_gan.pretrained import folder as weights_folder

PACKAGES = ("hpc", "skin_gan")
TIMEOUT = 10.0  # seconds for git: checkouts on busy shared disks are slow
CODE = "SKIN_GAN_CODE"  # environment variable of jobs: the copy of the code that they run from
# Files beside the copy, and the git commands whose output they hold, independent of a user's git settings.
FROM_GIT = {
    "changes.diff": ("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/",
                     "--dst-prefix=b/", "HEAD"),
    "untracked.txt": ("-c", "core.quotePath=false", "ls-files", "--others", "--exclude-standard"),
}  # fmt: skip


def record_launch(plan: Plan, store: Store, words: list[str], before: Experiment | None = None) -> Path:
    """Save the settings and their provenance before work starts; returns the folder of the code's copy.

    `before`: the settings that are saved in the folder already, if any.
    """
    plan.run.jobs.mkdir(parents=True, exist_ok=True)
    if before != plan.experiment:
        compose.save(plan.experiment, plan.run.settings)
    code = freeze(plan.run)
    endpoints.fix(plan, store, code.name)
    write_json(plan.run.provenance, provenance(plan, store))
    row = {"time": time.time(), "words": words, "code": code.name, **commit(plan.experiment.cluster)}
    append_jsonl(plan.run.path / "launches.jsonl", row)
    return code


def freeze(run: RunFolder) -> Path:
    """Copy the packages into code/HASH/ of the sweep, from where jobs run: edits do not reach queued jobs.

    Beside them are packages.txt, the installed packages, and in a git checkout changes.diff, the difference
    from the commit for `git apply`, and untracked.txt, the names of untracked files.
    """
    code = code_folder(run)
    if not code.exists():
        try:
            code.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=code.parent, prefix=".") as temporary:
                _copy_code(Path(temporary, code.name))
                os.replace(Path(temporary, code.name), code)
        except OSError as e:
            raise unwritable(code, e) from e
    return code


def code_folder(run: RunFolder) -> Path:
    """The folder for a copy of the code as it is now."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return run.path / "code" / digest.hexdigest()[:12]


def _files() -> list[Path]:
    """The modules, presets and page templates of the packages."""
    files = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*"))]
    return [path for path in files if path.suffix in (".py", ".yaml", ".j2")]


def _copy_code(folder: Path) -> None:
    for path in _files():
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    installed = sorted({f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions()})
    write_atomic(folder / "packages.txt", "\n".join([*installed, ""]))
    for name, words in FROM_GIT.items():
        if (output := git(*words)) is not None:
            write_atomic(folder / name, output)


def job_environment(code: Path, now: Mapping[str, str]) -> dict[str, str]:
    """Variables that make Python, and every Python it starts, import the packages from the copy."""
    paths = [str(code), *filter(None, [now.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", CODE: str(code)}


def exports(code: Path) -> list[str]:
    """The variables of `job_environment`, and the folder of weights if one is named, as lines of a script."""
    here = shlex.quote(str(code))
    path = here + "${PYTHONPATH:+:$PYTHONPATH}"
    lines = [f"export PYTHONPATH={path}", "export PYTHONSAFEPATH=1", f"export {CODE}={here}"]
    if os.environ.get(WEIGHTS):  # where a site or a user exports nothing to jobs
        lines.append(f"export {WEIGHTS}={shlex.quote(str(weights_folder().absolute()))}")
    return lines


def provenance(plan: Plan, store: Store) -> dict[str, Any]:
    """The content of provenance.json."""
    packages = ("torch", "torchvision", "accelerate", "ray", "submitit", "timm", "numpy")
    return {
        "sweep": plan.run.path.name,
        "data": {
            "name": store.name, "kind": store.kind, "fingerprint": store.fingerprint, "unit": store.unit,
            "partial": store.partial, "counts": store.counts, "notes": store.notes,
        },
        **commit(plan.experiment.cluster),
        "machine": {"host": socket.gethostname(), "system": platform.platform(), "cores": cores()},
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
    }  # fmt: skip


def commit(profile: str = "") -> dict[str, Any]:
    """The checkout's commit, None outside git, and whether files differ from it, None if git is too slow.

    Profiles, in slurm/ or at the path `profile`, do not count: they never change a result.
    """
    if (head := git("rev-parse", "HEAD")) is None:
        return {"commit": None}
    others = ["slurm/*.yaml"]
    if Path(profile).is_absolute() and Path(profile).is_relative_to(ROOT):
        others.append(str(Path(profile).relative_to(ROOT)))
    changes = git("status", "--porcelain", "--", ".", *(f":(exclude){other}" for other in others))
    return {"commit": head.decode().strip(), "modified": None if changes is None else bool(changes)}


def code_of(made: Mapping[str, Any]) -> str:
    """The result of `commit` in words."""
    changed = {True: " with local changes", False: "", None: ", perhaps with local changes"}
    return f"commit {made['commit']}{changed[made.get('modified', False)]}"


def git(*words: str) -> bytes | None:
    """The output of a git command in the checkout; None outside git, or if it takes too long."""
    if not IN_CHECKOUT:  # the environment may lie in a repository of somebody else
        return None
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
