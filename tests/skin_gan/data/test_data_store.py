"""What training gets to see: one class, its training and validation lesions, and never the test fold."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_samples import HEADER, ham10000, jpeg, pack, table, unpack

from skin_gan.data.ingest import Options, ingest
from skin_gan.data.resolve import describe, resolve
from skin_gan.data.store import Store, class_split, fold_fingerprint, open_store
from skin_gan.errors import SkinGanError


def nevi(folder: Path, images: int, lesions: int) -> Store:
    """A store of one class: `images` of `lesions`, as even as can be."""
    members = {f"ISIC_{i:07d}.jpg": jpeg(i) for i in range(images)}
    pack(unpack(folder / "in", {"x": b""}) / "HAM10000_images_part_1.zip", members)
    lines = [[f"HAM_{i % lesions}", f"ISIC_{i:07d}", "nv", "", "", "", "", ""] for i in range(images)]
    (folder / "in" / "HAM10000_metadata.csv").write_bytes(table(HEADER, lines))
    return ingest(folder / "in", folder / "out", Options([8]))[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return nevi(tmp_path_factory.mktemp("nevi"), 60, 30)


@pytest.mark.parametrize("fold", range(5))
def test_training_and_validation_share_no_lesion_and_leave_the_test_fold(store: Store, fold: int) -> None:
    split = class_split(store, "nv", 8, fold)
    assert split.train.images.shape == (36, 3, 8, 8) and split.val.images.shape == (12, 3, 8, 8)
    assert not set(split.train.lesions.tolist()) & set(split.val.lesions.tolist())
    seen = {*split.train.image_ids.tolist(), *split.val.image_ids.tolist()}
    test = set(store.manifest["image_id"][store.folds == fold])
    assert len(test) == 12 and not seen & test


def test_images_keep_their_ids_and_channels(store: Store) -> None:
    split = class_split(store, "nv", 8, 0)
    row = store.manifest["image_id"].tolist().index(split.val.image_ids[3])
    np.testing.assert_array_equal(split.val.images[3].transpose(1, 2, 0), store.images(8)[row])
    assert split.val.lesions[3] == store.manifest["group"][row]


def test_the_fingerprint_of_a_fold_names_data_and_fold(store: Store, tmp_path: Path) -> None:
    prints = {fold_fingerprint(store, fold) for fold in range(5)}
    prints.add(fold_fingerprint(nevi(tmp_path, 59, 30), 0))
    assert len(prints) == 6
    assert class_split(store, "nv", 8, 3).fingerprint in prints


@pytest.mark.parametrize(
    ("images", "lesions", "said"),
    [(15, 15, "9 training images of 9"), (20, 3, "of 1 lesions"), (4, 4, "at least 10")],
)
def test_a_class_too_small_is_one_clear_error(tmp_path: Path, images: int, lesions: int, said: str) -> None:
    small = nevi(tmp_path, images, lesions)
    with pytest.raises(SkinGanError, match=f"'nv'.*too small.*{said}"):
        class_split(small, "nv", 8, 0)


def test_the_smallest_class_that_is_allowed(tmp_path: Path) -> None:
    assert len(class_split(nevi(tmp_path, 17, 17), "nv", 8, 4).train.images) >= 10


def test_wrong_words_are_named_with_the_choices(store: Store) -> None:
    with pytest.raises(SkinGanError, match="no class 'naevus': choose from nv"):
        class_split(store, "naevus", 8, 0)
    with pytest.raises(SkinGanError, match="fold 5: expected 0 to 4"):
        class_split(store, "nv", 8, 5)
    with pytest.raises(SkinGanError, match=r"size 64 \(sizes there: 8\)"):
        class_split(store, "nv", 64, 0)


class TestResolve:
    def test_a_path(self, store: Store, tmp_path: Path) -> None:
        assert resolve(str(store.path), [8], tmp_path).fingerprint == store.fingerprint
        with pytest.raises(SkinGanError, match="no images of size 16"):
            resolve(str(store.path), [8, 16], tmp_path)
        with pytest.raises(SkinGanError, match=r"data=stores/none.*there is no such folder"):
            resolve("stores/none", [8], tmp_path)
        with pytest.raises(SkinGanError, match="is not a store"):
            resolve(str(tmp_path), [8], tmp_path)

    def test_auto_takes_the_one_store_that_has_the_sizes_and_says_so(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source, results = ham10000(tmp_path / "in"), tmp_path / "results"
        for name, sizes in (("a", [8]), ("b", [8, 16])):
            ingest(source, results / "stores" / name, Options(sizes))
        resolve("demo", [8, 16], results)  # is there too, but was not ingested
        chosen = resolve("auto", [16], results)
        assert chosen.path.name == "b"
        lines = capsys.readouterr().out.strip().splitlines()
        assert len(lines) == 1 and str(chosen.path) in lines[0]
        assert describe("auto", results, [16]).path == chosen.path

    @pytest.mark.parametrize("sizes", [[8], [32]], ids=["both have it", "neither has it"])
    def test_auto_asks_where_several_stores_could_be_meant(self, tmp_path: Path, sizes: list[int]) -> None:
        source, results = ham10000(tmp_path / "in"), tmp_path / "results"
        for name in "ab":
            ingest(source, results / "stores" / name, Options([8]))
        for choose in (resolve, lambda data, s, r: describe(data, r, s)):
            with pytest.raises(SkinGanError, match=r"several .*data=PATH.*stores/a .*sizes 8.*stores/b "):
                choose("auto", sizes, results)

    def test_a_folder_of_photographs_is_told_from_a_store(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "raw")
        for choose in (lambda: resolve(str(source), [8], tmp_path), lambda: describe(str(source), tmp_path)):
            with pytest.raises(SkinGanError, match=rf"data={source}.*ingest {source} --size") as error:
                choose()
            assert f"--out {source}" not in str(error.value)  # no store inside the photographs

    def test_a_place_that_cannot_be_written_is_called_as_launch_calls_it(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(
            SkinGanError, match=r"cannot write store .*choose another folder with results="
        ) as e:
            resolve("demo", [8], tmp_path / "file")
        assert "--out" not in str(e.value)

    def test_auto_without_a_store_is_the_built_in_data(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert resolve("auto", [8], tmp_path).kind == "demo"
        assert "built-in" in capsys.readouterr().out

    def test_describe_writes_nothing(self, tmp_path: Path) -> None:
        described = describe("demo", tmp_path)
        assert list(tmp_path.iterdir()) == []
        made = resolve("demo", [8], tmp_path)
        assert described.path == made.path and described == open_store(made.path)


def test_opening_a_store_is_light(store: Store, tmp_path: Path) -> None:
    """The planner opens stores: no torch, pandas or Pillow for that."""
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from skin_gan.data.resolve import describe\n"
        f"describe({str(store.path)!r}, Path('.')), describe('demo', Path('.'))\n"
        "print(json.dumps([m for m in ('torch', 'pandas', 'PIL', 'rich') if m in sys.modules]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert json.loads(out.stdout) == []


def test_store_json_is_all_there_is_to_know(store: Store) -> None:
    assert open_store(store.path) == store
    assert (store.counts, store.lesions, store.partial) == ({"nv": 60}, {"nv": 30}, True)
