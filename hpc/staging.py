"""The sweep's data on a node's own disk, where the cluster profile names one. No torch."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hpc.plan import Plan
from skin_gan.data.resolve import resolve
from skin_gan.data.store import Store, image_file
from skin_gan.errors import SkinGanError
from skin_gan.run import lock, unwritable

STORE = "SKIN_GAN_STORE"  # environment variable of a search: the store's copy on its node


def stage_data(plan: Plan) -> dict[str, str]:
    """Copy the store into profile.scratch, where it is not yet; returns the variable that says where."""
    e = plan.experiment
    if not e.profile.scratch:
        return {}
    scratch = Path(os.path.expandvars(e.profile.scratch))
    if "$" in str(scratch):
        raise SkinGanError(f"profile.scratch={e.profile.scratch}: a variable in it is not set on this node")
    size = e.trial.model.size
    store = resolve(e.data, [size], Path(e.results))
    copy = scratch / f"skin-gan-{store.fingerprint[:12]}-{size}"
    with lock(copy.with_suffix(".lock"), wait=float("inf")):  # two jobs of one node come here at once
        if not copy.exists():
            _copy_store(store, size, copy)
    return {STORE: str(copy)}


def _copy_store(store: Store, size: int, copy: Path) -> None:
    others = {image_file(store.path, s).name for s in store.sizes if s != size}
    try:
        with tempfile.TemporaryDirectory(dir=copy.parent) as temporary:
            part = Path(temporary, copy.name)
            shutil.copytree(store.path, part, ignore=lambda _, names: others & set(names))
            os.replace(part, copy)
    except OSError as e:
        raise unwritable(copy, e) from e
