"""How many CPU cores this process may use. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def cores(root: Path = Path("/")) -> int:
    """Whole cores, at least 1: a cpuset or a container's CPU quota may leave fewer than the machine has.

    A fraction is rounded down, as Ray does it: a process too many would be stopped in every period, and the
    others of its training would wait for it. `root`: the file system with /proc and /sys.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found = len(allowed) or os.cpu_count() or 1
    return max(1, int(min([found, *quotas(root)])))


def quotas(root: Path) -> Iterator[float]:
    """Cores that each control group around this process allows, of version 1 and 2, where it limits them."""
    for mount, top, kind, options in _mounts(root):
        for controllers, group in _groups(root):
            if kind == "cgroup2" and not controllers:
                of_group = _quota_v2
            elif kind == "cgroup" and "cpu" in options and "cpu" in controllers:
                of_group = _quota_v1
            else:
                continue
            # A container sees its own group as the top, or only the part of the tree that it was given.
            seen = Path(group).is_relative_to(top) and ".." not in group
            inside = Path(group).relative_to(top) if seen else Path()
            for part in (inside, *inside.parents):
                with suppress(OSError, ValueError):
                    if (cores := of_group(mount / part)) > 0:
                        yield cores


def _mounts(root: Path) -> Iterator[tuple[Path, str, str, list[str]]]:
    """(where, its top in the tree of groups, type, options) of each mounted tree of control groups."""
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/mountinfo").read_text().splitlines():
            words, _, more = line.partition(" - ")
            kind, _, options = more.split(" ")[:3]
            if kind.startswith("cgroup"):
                _, _, _, top, where = words.split(" ")[:5]
                yield root / where.replace(r"\040", " ").lstrip("/"), top, kind, options.split(",")


def _groups(root: Path) -> Iterator[tuple[list[str], str]]:
    """(controllers, group) of this process in each tree; version 2 has one tree, for all controllers."""
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            yield [c for c in controllers.split(",") if c], group


def _quota_v2(group: Path) -> float:
    quota, period = (group / "cpu.max").read_text().split()
    return float(quota) / float(period)  # "max" is no number: no limit


def _quota_v1(group: Path) -> float:
    quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota / period  # a quota of -1 is no limit
