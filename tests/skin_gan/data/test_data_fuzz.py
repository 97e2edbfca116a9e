"""Odd and damaged sources: each becomes the store that its recipe says, or one line that names the fault."""

import csv
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from data_recipes import Expected, Recipe, expected, recipes, write
from data_samples import cli
from hypothesis import HealthCheck, given, settings

from skin_gan.data.store import open_store

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a store is synced to its disk
RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def check(recipe: Recipe) -> None:
    """Ingest the recipe's source and compare with what the recipe alone says."""
    root = Path(tempfile.mkdtemp(dir=MEMORY))
    try:
        source, words = write(recipe, root)
        before = sorted(p.name for p in root.iterdir())
        result = cli("ingest", source, "--size", "8", "--out", root / "out", *words)
        said = result.stdout + result.stderr
        assert "Traceback" not in said
        want = expected(recipe)
        if want.error:
            assert result.returncode == 2, said
            line = result.stderr.strip()
            assert len(line.splitlines()) == 1 and line.startswith("error: "), said
            for word in want.error:
                assert word in line, (word, line)
            assert sorted(p.name for p in root.iterdir()) == before  # nothing half made
        elif recipe.fault == "scrambled":  # what it comes to depends on the bytes; never on a traceback
            assert result.returncode == 0 or len(result.stderr.strip().splitlines()) == 1, said
            assert result.returncode == 0 or sorted(p.name for p in root.iterdir()) == before
            if result.returncode == 0:
                open_store(root / "out").images(8)
        else:
            assert result.returncode == 0, said
            agrees(want, root / "out", said)
    finally:
        shutil.rmtree(root)


def agrees(want: Expected, store: Path, said: str) -> None:
    """The store's rows and units are the recipe's, and what must be said is said."""
    with open(store / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["image_id"]: row["dx"] for row in rows} == want.rows and len(rows) == len(want.rows)
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(row["group"], set()).add(row["image_id"])
    assert {frozenset(g) for g in groups.values()} == want.units
    report = (store / "report.md").read_text(encoding="utf-8")
    for note in want.notes:
        assert note in said and note in report, note


@settings(max_examples=100, deadline=None, suppress_health_check=RELAXED)
@given(recipes())
def test_some_sources(recipe: Recipe) -> None:
    check(recipe)


@pytest.mark.slow
@pytest.mark.timeout(0)
@settings(
    max_examples=int(os.environ.get("SKIN_GAN_FUZZ", "2000")), deadline=None, suppress_health_check=RELAXED
)
@given(recipes())
def test_thousands_of_sources(recipe: Recipe) -> None:
    """SKIN_GAN_FUZZ says how many; print the recipe of a failure with `-v`."""
    check(recipe)
