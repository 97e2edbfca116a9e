"""The experiment: plans, jobs, search, selection. Run its scripts with the Python of .venv."""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from types import ModuleType

if missing := [name for name in ("omegaconf", "rich", "yaml", "numpy") if find_spec(name) is None]:
    print(
        f"error: {sys.executable} has no {', '.join(missing)}: run `make .venv/installed` once, then use "
        ".venv/bin/python in place of python (or activate .venv)",
        file=sys.stderr,
    )
    raise SystemExit(2)


def start(module: str, command: str) -> int:
    """Import a command, such as launch of hpc.cli.launch, and run it; returns its exit code.

    A third-party package that is damaged, or hidden by another of its name, is reported on one line.
    """
    try:
        main = getattr(import_module(module), command)
        run = import_module("hpc.cli.launch").run_command
    except KeyboardInterrupt:  # packages of the environment can take seconds to be imported
        return 128 + signal.SIGINT
    except Exception as e:
        if (fault := fault_of_package(e, _running(e))) is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        return 2
    return run(main)  # type: ignore[no-any-return]


def fault_of_package(e: BaseException, running: Sequence[tuple[str, str]] = ()) -> str | None:
    """The message for an import error or missing name that a third-party package caused; None if none did.

    `running`: further packages, with their files, that may be at fault if PYTHONPATH has put them first.
    """
    folders = [Path(p).absolute() for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    message = f"{type(e).__name__}: {(str(e).strip().splitlines() or [''])[0]}"
    own = ("hpc", "skin_gan", "__main__", *sys.stdlib_module_names)
    named = [(name, file) for name, file in _named(e) if name not in own]
    for name, file in [*named, *((name, file) for name, file in running if name not in own)]:
        if first := next((folder for folder in folders if folder in Path(file).parents), None):
            return (
                f"{name} in {file} does not work here ({message}): PYTHONPATH puts {first} before the "
                "installed packages: remove it from there, or unset PYTHONPATH"
            )
    for name, file in named:
        return f"{name} in {file or sys.prefix} does not work here ({message}): run `make .venv/installed`"
    return None


def _named(e: BaseException) -> list[tuple[str, str]]:
    """The package that the error names, with its file; [] if it names none."""
    if isinstance(e, SyntaxError):
        return [(Path(e.filename or "").stem, e.filename or "")]
    name = e.name if isinstance(e, ImportError) else None
    if isinstance(e, AttributeError) and isinstance(e.obj, ModuleType):
        name = e.obj.__name__
    top = (name or "").partition(".")[0]
    return [(top, getattr(sys.modules.get(top), "__file__", None) or "")] if top else []


def _running(e: BaseException) -> list[tuple[str, str]]:
    """The packages on the stack of the error with their files, the innermost first."""
    frames = [frame for frame, _ in walk_tb(e.__traceback__)][::-1]
    return [(str(f.f_globals.get("__name__", "")).partition(".")[0], f.f_code.co_filename) for f in frames]
