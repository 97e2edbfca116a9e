"""Copies the sweep's store to the node's own disk, which is faster than the shared one. No torch."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hpc.plan.sweep_plan import Plan
from skin_gan.data.resolve import resolve
from skin_gan.data.store import Store, image_file
from skin_gan.errors import SkinGanError
from skin_gan.io import lock, unwritable

STORE = "SKIN_GAN_STORE"  # environment variable of a search: the path of the store's copy


def stage_data(plan: Plan) -> dict[str, str]:
    """Copy the store to profile.scratch, if it is not there yet; returns `STORE` with the copy's path."""
    e, scratch = plan.experiment, _scratch(plan)
    if not scratch:
        return {}
    size = e.trial.model.size
    store = resolve(e.data, [size], Path(e.results))
    # One copy per user: another user's could be neither locked nor trusted.
    copy = scratch / f"skin-gan-{os.getuid()}-{store.fingerprint[:12]}-{size}"
    # Two jobs on one node may copy at the same time.
    with lock(copy.with_suffix(".lock"), wait=float("inf"), what="this node's copy of the data"):
        if not copy.exists():
            _copy_store(store, size, copy)
    return {STORE: str(copy)}


def check_scratch(plan: Plan) -> None:
    """SkinGanError if profile.scratch cannot be written and locked on this node; copies nothing."""
    if scratch := _scratch(plan):
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=scratch) as temporary, lock(Path(temporary, "lock")):
                pass
        except OSError as e:
            raise unwritable(scratch, e) from e


def _scratch(plan: Plan) -> Path | None:
    """The folder of profile.scratch on this node; None if it is not set."""
    word = plan.experiment.profile.scratch
    if "$" in (path := os.path.expandvars(word)):
        raise SkinGanError(f"profile.scratch={word}: a variable in it is not set on this node")
    return Path(path) if path else None


def _copy_store(store: Store, size: int, copy: Path) -> None:
    others = {image_file(store.path, s).name for s in store.sizes if s != size}
    try:
        with tempfile.TemporaryDirectory(dir=copy.parent) as temporary:
            part = Path(temporary, copy.name)
            shutil.copytree(store.path, part, ignore=lambda _, names: others & set(names))
            os.replace(part, copy)
    except OSError as e:
        raise unwritable(copy, e) from e
