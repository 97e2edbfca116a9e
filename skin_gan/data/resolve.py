"""From the word in `data=` to a store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from skin_gan.data import demo
from skin_gan.data.store import Store, describe_rows, image_file, not_a_store, open_store, store_json
from skin_gan.errors import SkinGanError

AUTO, DEMO = "auto", "demo"
RESULTS = "results="  # what a launch calls the folder that the built-in data is drawn into


def resolve(data: str, sizes: Sequence[int], results: Path) -> Store:
    """The store that `data` means, holding every one of `sizes`.

    `demo`: the built-in data, drawn into results/stores/ where it is missing. `auto`: the one ingested store
    in results/stores/ that has all sizes, else the built-in data; one printed line says which, and several
    that have them are a SkinGanError that names them. Else: a store's path.
    """
    chosen = _choose(data, sizes, results)
    if data == AUTO:
        print(f"data=auto: {chosen or 'no ingested store in results/stores, so the built-in data (demo)'}")
    store = _demo(sizes, results) if chosen is None else open_store(chosen)
    for size in sizes:
        store.images(size)
    return store


def describe(data: str, results: Path, sizes: Sequence[int] = ()) -> Store:
    """As `resolve`, but nothing is written or announced: the built-in data need not be there yet."""
    chosen = _choose(data, sizes, results)
    if chosen is None:
        return demo_description(results)
    store = open_store(chosen)
    for size in sizes:
        store.images(size)
    return store


def demo_description(results: Path) -> Store:
    """The built-in data's store as it is, or will be, under `results`; its images may not be there."""
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
    """The path of a store, or None for the built-in data."""
    if data == DEMO:
        return None
    if data != AUTO:
        path = Path(data).expanduser()
        if not os.path.exists(path / "store.json"):  # False, too, where we may not look
            raise SkinGanError(
                f"data={data}: expected a store's folder, `{DEMO}` or `{AUTO}`; {not_a_store(path, sizes)}, "
                "and give "
                "that as data="
            )
        return path
    stores = [s for s in _stores(results / "stores") if s.kind != DEMO]
    fitting = [s for s in stores if set(sizes) <= set(s.sizes)] or stores
    if len(fitting) > 1:
        there = "; ".join(f"{s.path} ({s.extent}, sizes {', '.join(map(str, s.sizes))})" for s in fitting)
        raise SkinGanError(f"data=auto: several stores could be meant, choose one with data=PATH: {there}")
    return fitting[0].path if fitting else None


def _stores(folder: Path) -> list[Store]:
    return [open_store(p.parent) for p in sorted(folder.glob("[!.]*/store.json"))]


def _demo(sizes: Sequence[int], results: Path) -> Store:
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
    return open_store(store.path)
