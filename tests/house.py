"""Draws the house: which rooms there are, on which floors, and who imports whom. Run by `make house`.

A room is a sub-package of hpc or skin_gan, or a module that stands by itself. A room may import from rooms
on floors below its own, never from one beside or above it. Within a room files may import one another,
but not in a circle. The exit code is 1 where that does not hold.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# From the top down. A room that is not named here has no floor, which is a fault too.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("hpc.launch", "hpc.status", "hpc.steer", "hpc.aggregate"),
    ("hpc.cli",),
    ("hpc.cluster",),
    ("hpc.jobs",),
    ("hpc.search", "hpc.report"),
    ("hpc.stages",),
    ("hpc.slurm",),
    ("hpc.state",),
    ("hpc.plan",),
    ("hpc.settings",),
    ("skin_gan.single", "skin_gan.generate", "skin_gan.export", "skin_gan.measure", "skin_gan.ablation"),
    ("skin_gan.generator",),
    ("skin_gan.training",),
    ("skin_gan.families", "skin_gan.metrics"),
    ("skin_gan.projected",),
    ("skin_gan.objectives", "skin_gan.data", "skin_gan.pretrained"),
    ("skin_gan.presets", "skin_gan.fast", "skin_gan.rng"),
    ("skin_gan.config",),
    ("skin_gan.tables",),
    ("skin_gan.ranges", "skin_gan.variants", "skin_gan.identity", "skin_gan.folders"),
    ("skin_gan.io", "skin_gan.cores", "skin_gan.words", "skin_gan.pixels", "skin_gan.installation"),
    ("skin_gan.errors",),
)
Graph = Mapping[str, Collection[str]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of hpc and skin_gan, by its dotted name."""
    found = {}
    for path in sorted([*(root / "hpc").rglob("*.py"), *(root / "skin_gan").rglob("*.py")]):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """For each module those of the house that it imports, at its top or inside functions."""
    found = modules(root)
    return {name: imported(path, found) - {name} for name, path in found.items()}


def imported(path: Path, known: Collection[str]) -> set[str]:
    """Which of the known modules a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= parts & set(known) or {node.module}
    return names & set(known)


def room(module: str) -> str:
    """The room of a module: its first two names; "" for the packages themselves, which are empty."""
    return ".".join(module.split(".")[:2]) if "." in module else ""


def faults(imports: Graph) -> Iterator[str]:
    """A line for each rule that the imports break."""
    level = {name: depth for depth, floor in enumerate(FLOORS) for name in floor}
    for name in sorted({room(m) for m in imports} - {""} - set(level)):
        yield f"{name} has no floor: give it one in FLOORS"
    for importer, targets in sorted(imports.items()):
        for target in sorted(targets):
            above, below = level.get(room(importer)), level.get(room(target))
            if above is not None and below is not None and room(importer) != room(target) and above >= below:
                yield f"{importer} imports {target}, which is not on a floor below it"
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as e:
        yield "a circle: " + " -> ".join(e.args[1])


def drawing(imports: Graph, files: Mapping[str, Path]) -> Iterator[str]:
    """The house as text: a line per room with its size, and the rooms that it imports from."""
    arrows = {(room(a), room(b)) for a, targets in imports.items() for b in targets if room(a) != room(b)}
    count, lines = Counter(map(room, files)), Counter()
    for name, path in files.items():
        lines[room(name)] += len(path.read_text(encoding="utf-8").splitlines())
    for floor in FLOORS:
        yield ""
        for name in floor:
            below = [b.removeprefix("hpc.") for a, b in sorted(arrows) if a == name and b]
            size = f"{count[name]} file{'s' if count[name] != 1 else ' '} {lines[name]:5} lines"
            yield f"{name:<22} {size:>20}   -> {', '.join(below) or 'nothing'}"


def main() -> int:
    imports = graph()
    print("\n".join(drawing(imports, modules())).strip())
    found = list(faults(imports))
    print("\n" + ("\n".join(found) or "no import leads upwards, and there is no circle"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
