"""The notebooks in examples/ run from top to bottom; what is committed is small and says nothing local."""

import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from places import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
PUBLISHED = Path("results", "published")


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook after a run beside a copy of the published results, in a folder of its own."""
    shutil.copytree(ROOT / PUBLISHED, folder / PUBLISHED)
    (folder / "examples").mkdir()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=560, kernel_name="python3", resources={"metadata": {"path": folder / "examples"}}
    )
    return client.execute()


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a busy machine: two networks measure 700 images
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    before, after = nbformat.read(path, as_version=4), executed(path, tmp_path / "checkout")

    def kinds(cell: nbformat.NotebookNode) -> list[str]:
        shown = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
        return [key for output in shown for key in sorted(output.get("data", ["stream"]))]

    assert [*map(kinds, before.cells)] == [*map(kinds, after.cells)], "run it again and commit its outputs"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_is_committed_was_run_in_order_is_small_and_says_nothing_local(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and not {output.output_type for output in outputs} & {"error"}
    assert all(output.get("name") != "stderr" for output in outputs), "a warning is no result"
    text = path.read_text()
    assert len(text) < 300_000 and not re.search(
        r"/(home|root|tmp|work|usr|opt)\b|0x[0-9a-f]{6}", without_images(text)
    )
    assert all(len(image) < 200_000 for image in re.findall(r'"image/png": "([^"]*)"', text))


def without_images(text: str) -> str:
    return re.sub(r'"image/png": "[^"]*"', "", text)


def test_there_is_one_for_each_task() -> None:
    assert {p.stem for p in NOTEBOOKS} == {"draw_lesions", "measure_images", "train_gan", "read_sweep"}
