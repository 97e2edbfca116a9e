"""Opens the store that the setting `data=` names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from skin_gan.data import demo
from skin_gan.data.store import Store, describe_rows, image_file, not_a_store, open_store, store_json
from skin_gan.errors import SkinGanError

AUTO, DEMO = "auto", "demo"
RESULTS = "results="  # the setting of a launch that chooses the folder of the built-in data


def resolve(data: str, sizes: Sequence[int], results: Path) -> Store:
    """The store that `data` names, with images of all `sizes`.

    `demo`: the built-in data, drawn into results/stores/ if it is missing. `auto`: the one ingested store in
    results/stores/ that has all sizes, else the built-in data; the choice is printed. SkinGanError if several
    stores have them. Otherwise `data` is a store's path.
    """
    chosen = _choose(data, sizes, results)
    if data == AUTO:
        print(f"data=auto: {chosen or 'no ingested store in results/stores, so the built-in data (demo)'}")
    return _demo(sizes, results) if chosen is None else _open(chosen, sizes)


def describe(data: str, results: Path, sizes: Sequence[int] = ()) -> Store:
    """As `resolve`, but nothing is written or printed: the built-in data need not exist yet."""
    chosen = _choose(data, sizes, results)
    return demo_description(results) if chosen is None else _open(chosen, sizes)


def _open(path: Path, sizes: Sequence[int]) -> Store:
    """The store at `path`; SkinGanError if it lacks one of `sizes`."""
    store = open_store(path)
    for size in sizes:
        store.images(size)
    return store


def demo_description(results: Path) -> Store:
    """The built-in data's store under `results`, which need not exist yet."""
    values = describe_rows(demo.rows(), demo.RECIPE)
    values["fingerprint"] = demo.fingerprint()
    return Store(
        path=results / "stores" / f"demo-{demo.fingerprint()[:8]}",
        name="demo",
        kind=DEMO,
        unit="lesion",
        partial=False,
        notes=[demo.NOTE],
        source={"path": DEMO},
        **values,
    )


def _choose(data: str, sizes: Sequence[int], results: Path) -> Path | None:
    """The path of the store that `data` names, or None for the built-in data."""
    if data == DEMO:
        return None
    if data != AUTO:
        path = Path(data).expanduser()
        if not os.path.exists(path / "store.json"):  # False, too, without permission to look
            raise SkinGanError(
                f"data={data}: expected a store's folder, `{DEMO}` or `{AUTO}`; {not_a_store(path, sizes)}, "
                "and give that as data="
            )
        return path
    found = map(open_store, sorted(p.parent for p in (results / "stores").glob("[!.]*/store.json")))
    stores = [s for s in found if s.kind != DEMO]
    fitting = [s for s in stores if set(sizes) <= set(s.sizes)] or stores
    if len(fitting) > 1:
        there = "; ".join(f"{s.path} ({s.extent}, sizes {', '.join(map(str, s.sizes))})" for s in fitting)
        raise SkinGanError(f"data=auto: several stores could be meant, choose one with data=PATH: {there}")
    return fitting[0].path if fitting else None


def _demo(sizes: Sequence[int], results: Path) -> Store:
    """The built-in data's store; what is missing of it is drawn."""
    from skin_gan.data.build import add_sizes, building, manifest_csv, write_images

    store = demo_description(results)
    if not store.path.exists():
        with building(store.path, RESULTS) as folder:
            write_images(folder, sizes, demo.images(list(sizes)))
            (folder / "manifest.csv").write_text(manifest_csv(demo.rows()))
            (folder / "store.json").write_text(store_json(store))
    missing = [s for s in sizes if not image_file(store.path, s).exists()]
    if missing:
        add_sizes(store.path, missing, demo.images(missing), RESULTS)
    return _open(store.path, sizes)
