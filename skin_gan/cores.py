"""The number of CPU cores that this process may use. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def cores(root: Path = Path("/")) -> int:
    """Whole cores, at least 1, within the cpuset and the CPU quotas of control groups.

    A fraction is rounded down, as in Ray: with one process too many the kernel would stop one in every
    period, and the others would wait for it. `root`: the file system with /proc and /sys.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found = len(allowed) or os.cpu_count() or 1
    return max(1, int(min([found, *quotas(root)])))


def quotas(root: Path) -> Iterator[float]:
    """The limit in cores of each control group around this process that has one (versions 1 and 2)."""
    for mount, top, kind, options in _mounts(root):
        for controllers, group in _groups(root):
            if kind == "cgroup2" and not controllers:
                read_quota = _quota_v2
            elif kind == "cgroup" and "cpu" in options and "cpu" in controllers:
                read_quota = _quota_v1
            else:
                continue
            # A container sees its own group as the top of the tree, or a part of the tree.
            visible = Path(group).is_relative_to(top) and ".." not in group
            inside = Path(group).relative_to(top) if visible else Path()
            for part in (inside, *inside.parents):
                with suppress(OSError, ValueError):
                    if (cores := read_quota(mount / part)) > 0:
                        yield cores


def _mounts(root: Path) -> Iterator[tuple[Path, str, str, list[str]]]:
    """(mount point, top group, type, options) of each mounted tree of control groups."""
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/mountinfo").read_text().splitlines():
            words, _, more = line.partition(" - ")
            kind, _, options = more.split(" ")[:3]
            if kind.startswith("cgroup"):
                _, _, _, top, where = words.split(" ")[:5]
                yield root / where.replace(r"\040", " ").lstrip("/"), top, kind, options.split(",")


def _groups(root: Path) -> Iterator[tuple[list[str], str]]:
    """(controllers, group) of this process in each tree; version 2 has one tree without controllers."""
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            yield [c for c in controllers.split(",") if c], group


def _quota_v2(group: Path) -> float:
    quota, period = (group / "cpu.max").read_text().split()
    return float(quota) / float(period)  # ValueError for "max", which is no limit


def _quota_v1(group: Path) -> float:
    quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota / period  # a quota of -1 is no limit
