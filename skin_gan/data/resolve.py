"""From the word in `data=` to a store."""

from __future__ import annotations

from pathlib import Path

from skin_gan.data import demo
from skin_gan.data.store import Store, describe_rows, image_file, open_store, store_json
from skin_gan.errors import SkinGanError

AUTO, DEMO = "auto", "demo"


def resolve(data: str, sizes: list[int], results: Path) -> Store:
    """The store that `data` means, holding every one of `sizes`.

    `demo`: the built-in data, drawn into results/stores/ where it is missing. `auto`: the newest ingested
    store in results/stores/, else the built-in data; one printed line says which. Else: a store's path.
    """
    chosen = _choose(data, results, announce=True)
    store = _demo(sizes, results) if chosen is None else open_store(chosen)
    for size in sizes:
        store.images(size)
    return store


def describe(data: str, results: Path) -> Store:
    """As `resolve`, but nothing is written or announced: the built-in data need not be there yet."""
    chosen = _choose(data, results, announce=False)
    return demo_description(results) if chosen is None else open_store(chosen)


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


def _choose(data: str, results: Path, announce: bool) -> Path | None:
    """The path of a store, or None for the built-in data."""
    if data == DEMO:
        return None
    if data != AUTO:
        path = Path(data).expanduser()
        if not path.is_dir():
            raise SkinGanError(
                f"data={data}: expected a store's folder, `{DEMO}` or `{AUTO}`, and there is no such folder; "
                f"make a store with `python -m skin_gan.data ingest SOURCE --size 32 --out {data}`"
            )
        return path
    ingested = [s.path for s in _stores(results / "stores") if s.kind != DEMO]
    newest = max(ingested, key=lambda p: (p / "store.json").stat().st_mtime_ns, default=None)
    if announce:
        print(f"data=auto: {newest or 'no ingested store in results/stores, so the built-in data (demo)'}")
    return newest


def _stores(folder: Path) -> list[Store]:
    return [open_store(p.parent) for p in sorted(folder.glob("[!.]*/store.json"))]


def _demo(sizes: list[int], results: Path) -> Store:
    from skin_gan.data.build import add_sizes, building, manifest_csv, write_images

    store = demo_description(results)
    if not store.path.exists():
        with building(store.path) as folder:
            write_images(folder, sizes, demo.images(sizes))
            (folder / "manifest.csv").write_text(manifest_csv(demo.rows()))
            (folder / "store.json").write_text(store_json(store))
    missing = [s for s in sizes if not image_file(store.path, s).exists()]
    if missing:
        add_sizes(store.path, missing, demo.images(missing))
    return open_store(store.path)
