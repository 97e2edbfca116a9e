"""The console command `skin-gan`: one name for the scripts of hpc and the modules of skin_gan. No torch."""

from __future__ import annotations

import sys
from importlib import import_module

from hpc import start
from skin_gan import __version__

# What `skin-gan NAME` runs: a command of hpc, see `start`; or the `main` of a module of skin_gan, given
# the words of the list and then the user's.
SCRIPTS = {
    "launch": ("hpc.cli.launch", "launch", "plan, run or resume a sweep: skin-gan launch sweep=aegan_lr"),
    "status": ("hpc.cli.status", "status", "what sweeps have reached"),
    "steer": ("hpc.cli.steer", "steer", "cancel, hold, release or retry the jobs of a sweep"),
    "aggregate": ("hpc.cli.results", "aggregate", "the leaderboard and best generators again, or published"),
    "report": ("hpc.cli.results", "report", "write the report of a sweep again, and print where it is"),
}
MODULES = {
    "ingest": ("skin_gan.data.__main__", ["ingest"], "make a store from HAM10000 or images of your own"),
    "show": ("skin_gan.data.__main__", ["show"], "what a store holds, and its folds"),
    "generate": ("skin_gan.generate", [], "draw images of a class"),
    "measure": (
        "skin_gan.measure",
        [],
        "measure generators or others' images against held-out photographs",
    ),
    "export": (
        "skin_gan.export",
        [],
        "a generator to share: Hugging Face, ONNX, one Python file",
    ),
    "weights": ("skin_gan.pretrained", [], "the pretrained networks: which are here, and fetch others"),
}


def main() -> int:
    """Run the command that the first word names; returns its exit code, 2 for an unknown one."""
    name, words = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name in ("-V", "--version"):
        print(f"skin-gan {__version__}")
    elif name in ("-h", "--help"):
        print(usage())
        return 0 if len(sys.argv) > 1 else 2
    elif name in SCRIPTS:
        sys.argv[:2] = [f"skin-gan {name}"]  # of which argparse tells, and without the command's name
        return start(*SCRIPTS[name][:2])
    elif name in MODULES:
        module, first, _ = MODULES[name]
        return import_module(module).main([*first, *words])  # type: ignore[no-any-return]
    else:
        hint = f"skin-gan launch {name}" if "=" in name else "skin-gan --help tells what each does"
        names = ", ".join((*SCRIPTS, *MODULES))
        print(f"error: unknown command {name!r}: choose one of {names}; {hint}", file=sys.stderr)
        return 2
    return 0


def usage() -> str:
    """The text of `skin-gan --help`."""
    rows = [(name, about) for name, (_, _, about) in (SCRIPTS | MODULES).items()]
    return "\n".join(
        [
            "usage: skin-gan COMMAND ..., skin-gan COMMAND --help, or skin-gan --version",
            "GANs for classes of few skin-lesion images. Not for clinical use.\n",
            *(f"  {name:<11}{about}" for name, about in rows),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
