"""Bad sources, hostile archives, full disks and kills: one clear error, nothing half-made, nothing lost."""

import errno
import io
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from data_samples import HEADER, cli, command, ham10000, jpeg, pack, rows, table, unpack
from PIL import Image

from skin_gan.data import build
from skin_gan.data.ingest import Options, ingest
from skin_gan.data.store import Store, open_store
from skin_gan.errors import SkinGanError


def make(source: Path, out: Path, *sizes: int, **options: object) -> Store:
    return ingest(source, out, Options(list(sizes) or [16], **options))[0]


def refused(source: Path, tmp_path: Path, *texts: str) -> None:
    """The command ends with 2 and one line that has every text; nothing is left."""
    before = sorted(p.name for p in tmp_path.iterdir())
    result = cli("ingest", source, "--size", "16", "--out", tmp_path / "out")
    assert result.returncode == 2, result.stdout + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    for text in texts:
        assert text in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def small(folder: Path) -> Path:
    return unpack(folder, {f"{c}/{i}.jpg": jpeg(ord(c) + i) for c in "ab" for i in range(3)})


class TestSource:
    def test_does_not_exist(self, tmp_path: Path) -> None:
        refused(tmp_path / "nowhere", tmp_path, "does not exist")

    def test_is_empty(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        refused(tmp_path / "in", tmp_path, "HAM10000", "ISIC 2016 challenge", "one folder per class")

    def test_images_without_classes(self, tmp_path: Path) -> None:
        refused(unpack(tmp_path / "in", {"1.jpg": jpeg(1)}), tmp_path, "one folder per class")

    def test_is_a_file_of_another_kind(self, tmp_path: Path) -> None:
        (tmp_path / "metadata.csv").write_text("a,b\n")
        refused(tmp_path / "metadata.csv", tmp_path, "neither a folder nor a zip")

    def test_parts_without_metadata(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in")
        (source / "HAM10000_metadata.csv").unlink()
        refused(source, tmp_path, "HAM10000_metadata")

    def test_metadata_without_images(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in")
        for part in source.glob("*.zip"):
            part.unlink()
        refused(source, tmp_path, "28 missing")

    def test_a_cut_zip(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in")
        part = source / "HAM10000_images_part_1.zip"
        part.write_bytes(part.read_bytes()[:-200])
        refused(source, tmp_path, "part_1.zip is not a readable zip")

    def test_a_zip_inside_a_zip(self, tmp_path: Path) -> None:
        source = ham10000(tmp_path / "in")
        outer = pack(tmp_path / "dataverse.zip", {p.name: p.read_bytes() for p in source.iterdir()})
        refused(outer, tmp_path, "zip inside a zip")

    def test_nothing_readable(self, tmp_path: Path) -> None:
        refused(unpack(tmp_path / "in", {"a/1.jpg": b"x", "a/2.jpg": b""}), tmp_path, "none of the 2 images")

    def test_links_that_lead_back_up(self, tmp_path: Path) -> None:
        source = small(tmp_path / "in")
        (source / "a" / "loop").symlink_to(source)
        assert sum(make(source, tmp_path / "out").counts.values()) == 6

    def test_an_earlier_store_inside_the_source_is_no_source(self, tmp_path: Path) -> None:
        source = small(tmp_path / "in")
        make(source, source / "store")
        assert "nothing to do" in cli("ingest", source, "--size", "16", "--out", source / "store").stdout


class TestMetadata:
    def write(self, folder: Path, data: bytes) -> Path:
        (ham10000(folder) / "HAM10000_metadata.csv").write_bytes(data)
        return folder

    def test_missing_column(self, tmp_path: Path) -> None:
        header = ["lesion", "image_id", "dx", *HEADER[3:]]
        refused(
            self.write(tmp_path / "in", table(header, rows(28))),
            tmp_path,
            "lacks the column lesion_id",
            "unknown lesion",
        )

    def test_unknown_class(self, tmp_path: Path) -> None:
        lines = rows(28)
        lines[4][2] = "wart"
        refused(self.write(tmp_path / "in", table(HEADER, lines)), tmp_path, "'wart' in 1 rows", "akiec, bcc")

    def test_an_image_without_an_id_is_named_by_its_line(self, tmp_path: Path) -> None:
        lines = rows(28)
        lines[4][1] = ""
        refused(self.write(tmp_path / "in", table(HEADER, lines)), tmp_path, "line 6", "image_id", "metadata")

    def test_an_image_described_in_two_ways(self, tmp_path: Path) -> None:
        lines = [*rows(28), [*rows(1)[0][:2], "mel", *rows(1)[0][3:]]]
        refused(self.write(tmp_path / "in", table(HEADER, lines)), tmp_path, "ISIC_0000000 as akiec")

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "is empty"),
            (table(HEADER, []), "no rows"),
            (table(HEADER, rows(28))[:-30], "cut or damaged"),
            (b"\xff\xfe" + "image_id".encode("utf-16-le"), "no rows"),
            (b"\xff\xfe" + "image_id".encode("utf-16-le")[:-1], "damaged UTF-16"),
            (b"\x89PNG\0\0\0", "no text"),
            (table(HEADER, rows(28)).replace(b"ISIC_0000003", b'"ISIC_0000003'), "quotation mark"),
            (b"dx,dx,image_id\n", "twice"),
        ],
        ids=[
            "empty",
            "header only",
            "cut",
            "header in utf-16",
            "cut utf-16",
            "no text",
            "quote",
            "double column",
        ],
    )
    def test_damaged(self, tmp_path: Path, data: bytes, said: str) -> None:
        refused(self.write(tmp_path / "in", data), tmp_path, "HAM10000_metadata.csv", said)

    def test_a_ground_truth_without_classes(self, tmp_path: Path) -> None:
        source = unpack(
            tmp_path / "in", {"x/I1.jpg": jpeg(1), "GroundTruth.csv": b"image,diagnosis\nI1,nv\n"}
        )
        refused(source, tmp_path, "GroundTruth.csv", "image, diagnosis")


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


class TestHostileArchives:
    @pytest.mark.parametrize(
        "name",
        [
            "../evil.jpg",
            "a/../../evil.jpg",
            "/etc/evil.jpg",
            "C:/evil.jpg",
            "a\\..\\..\\evil.jpg",
            "a/x\0/../e.jpg",
        ],
    )
    def test_paths_that_lead_out(self, tmp_path: Path, name: str) -> None:
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("a/1.jpg", jpeg(1))
            info = zipfile.ZipInfo("x" * len(name))
            archive.writestr(info, jpeg(2))
        source.write_bytes(source.read_bytes().replace(b"x" * len(name), name.encode()))
        refused(source, tmp_path, "leads out of it")

    def test_links(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            archive.writestr("a/1.jpg", jpeg(1))
            link = zipfile.ZipInfo("a/2.jpg")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
        refused(tmp_path / "in.zip", tmp_path, "is a link")

    def test_a_member_that_unpacks_to_far_more_than_it_weighs(self, tmp_path: Path) -> None:
        refused(pack(tmp_path / "in.zip", {"a/1.bmp": bytes(20 << 20)}), tmp_path, "unpacks from")

    def test_a_member_that_lies_about_its_size_is_cut_there(self, tmp_path: Path) -> None:
        source = pack(tmp_path / "in.zip", {"a/1.jpg": jpeg(1), "a/2.jpg": bytes(30 << 20)})
        data = source.read_bytes().replace(struct.pack("<I", 30 << 20), struct.pack("<I", 1000))
        source.write_bytes(data)
        store = make(source, tmp_path / "out")
        assert sum(store.counts.values()) == 1

    def test_encrypted(self, tmp_path: Path) -> None:
        source = pack(tmp_path / "in.zip", {"a/1.jpg": jpeg(1)})
        data = bytearray(source.read_bytes())
        data[data.find(b"PK\1\2") + 8] |= 1
        source.write_bytes(data)
        refused(source, tmp_path, "encrypted")

    def test_too_many_members(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("skin_gan.data.files.MAX_FILES", 10)
        with pytest.raises(SkinGanError, match="11 members"):
            make(pack(tmp_path / "in.zip", {f"a/{i}.jpg": b"" for i in range(11)}), tmp_path / "out")
        with pytest.raises(SkinGanError, match="more than 10 files"):
            make(unpack(tmp_path / "in", {f"a/{i}.jpg": b"" for i in range(11)}), tmp_path / "out")

    @pytest.mark.parametrize("side", [8_000, 12_000, 60_000], ids=["limit", "warning", "error"])
    def test_an_image_that_declares_a_huge_size(self, tmp_path: Path, side: int) -> None:
        source = pack(tmp_path / "in.zip", {"a/1.jpg": jpeg(1), "a/2.png": png_header(side, side)})
        refused(source, tmp_path, "a/2.png is refused")


class TestWriting:
    def test_a_folder_with_something_else_is_not_touched(self, tmp_path: Path) -> None:
        unpack(tmp_path / "out", {"thesis.tex": b"years of work"})
        refused(small(tmp_path / "in"), tmp_path, "is no store")
        assert (tmp_path / "out" / "thesis.tex").read_bytes() == b"years of work"

    def test_another_source_or_other_options_are_not_mixed_in(self, tmp_path: Path) -> None:
        source = small(tmp_path / "in")
        first = make(source, tmp_path / "out")
        for change in ({"background": (255, 255, 255)}, {"classes": ["a"]}):
            with pytest.raises(SkinGanError, match="another source, or made with other options"):
                make(source, tmp_path / "out", **change)
        (source / "a" / "new.jpg").write_bytes(jpeg(500))
        with pytest.raises(SkinGanError, match="another source"):
            make(source, tmp_path / "out")
        assert open_store(tmp_path / "out").fingerprint == first.fingerprint

    def test_the_same_source_again_does_nothing_and_says_so(self, tmp_path: Path) -> None:
        source = small(tmp_path / "in")
        make(source, tmp_path / "out")
        before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
        result = cli("ingest", source, "--size", "16", "--out", tmp_path / "out")
        assert result.returncode == 0 and "nothing to do" in result.stdout
        assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before

    def test_a_size_is_added_to_what_is_there(self, tmp_path: Path) -> None:
        source = small(tmp_path / "in")
        make(source, tmp_path / "out", 16)
        store = make(source, tmp_path / "out", 16, 32)
        both = make(source, tmp_path / "both", 32)
        assert store.sizes == [16, 32] and store.fingerprint == both.fingerprint
        assert (store.images(32) == both.images(32)).all()

    @pytest.mark.parametrize("step", ["write_images", "manifest_csv", "store_json"])
    def test_a_full_disk_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(f"skin_gan.data.ingest.{step}", full)
        source = small(tmp_path / "in")
        with pytest.raises(SkinGanError, match="No space left on device; free space"):
            make(source, tmp_path / "stores" / "out")
        assert list((tmp_path / "stores").iterdir()) == []

    def test_a_limit_of_the_system_is_one_line_and_leaves_nothing(self, tmp_path: Path) -> None:
        """The kernel itself refuses to write on: files may have 20 kB, and the images need more."""
        line = [sys.executable, "-m", "skin_gan.data", "ingest", small(tmp_path / "in"), "--size", "64"]
        done = subprocess.run(
            [*map(str, line), "--out", str(tmp_path / "stores" / "out")],
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        )
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
        assert os.strerror(errno.EFBIG) in done.stderr and "free space" in done.stderr
        assert list((tmp_path / "stores").iterdir()) == []

    @pytest.mark.parametrize("name", ["x" * 300, "file/out"])
    def test_a_place_that_cannot_be(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").write_text("x")
        result = cli("ingest", small(tmp_path / "in"), "--size", "8", "--out", tmp_path / name)
        assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
        assert "cannot write store" in result.stderr and "--out" in result.stderr

    def test_a_full_disk_while_a_size_is_added_keeps_the_store(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = small(tmp_path / "in")
        make(source, tmp_path / "out")

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(build.ImageWriter, "append", full)
        with pytest.raises(SkinGanError, match="No space left"):
            make(source, tmp_path / "out", 32)
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
            "images-16.npy", "manifest.csv", "report.json", "report.md", "store.json",
        ]  # fmt: skip

    def test_a_file_where_the_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        source = small(tmp_path / "in")
        with pytest.raises(SkinGanError, match="cannot write store"):
            make(source, tmp_path / "file" / "out")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_read_only_folder(self, tmp_path: Path) -> None:
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(SkinGanError, match="Permission denied"):
            make(small(tmp_path / "in"), tmp_path / "locked" / "out")


SLOW = """
import sys, time
import skin_gan.data.ingest as module
original = module._decode_one
def slow(*args, **kwargs):
    print("reading", flush=True)
    time.sleep(60)
module._decode_one = slow
from skin_gan.data.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


class TestKill:
    def start(self, source: Path, out: Path) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "-c",
            SLOW.replace("60", "0.5"),
            "ingest",
            source,
            "--size",
            "16",
            "--out",
            out,
        ]
        child = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stdout.readline() == "reading\n"
        return child

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_leaves_nothing(self, tmp_path: Path, number: signal.Signals) -> None:
        child = self.start(small(tmp_path / "in"), tmp_path / "out")
        child.send_signal(number)
        errors = child.communicate(timeout=30)[1]
        assert child.returncode == 130 and "Traceback" not in errors
        assert "no half store" in errors.splitlines()[-1]
        assert [p.name for p in tmp_path.iterdir()] == ["in"]

    def test_what_a_kill_leaves_is_removed_by_the_next_ingest(self, tmp_path: Path) -> None:
        source = small(tmp_path / "in")
        child = self.start(source, tmp_path / "out")
        child.kill()
        child.communicate(timeout=30)
        assert not (tmp_path / "out").exists()
        assert len(list(tmp_path.glob(".out.*.partial"))) == 1
        make(source, tmp_path / "out")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]

    def test_what_a_kill_leaves_while_a_size_is_added_is_removed_too(self, tmp_path: Path) -> None:
        source = small(tmp_path / "in")
        make(source, tmp_path / "out", 8)
        child = self.start(source, tmp_path / "out")
        child.kill()
        child.communicate(timeout=30)
        assert open_store(tmp_path / "out").sizes == [8] and list((tmp_path / "out").glob(".sizes.*"))
        assert make(source, tmp_path / "out", 16).sizes == [8, 16]
        assert not list((tmp_path / "out").glob(".*"))

    def test_an_ingest_that_is_running_is_left_alone(self, tmp_path: Path) -> None:
        source = small(tmp_path / "in")
        child = self.start(source, tmp_path / "out")
        make(source, tmp_path / "out")
        assert len(list(tmp_path.glob(".out.*.partial"))) == 1
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
        assert open_store(tmp_path / "out").sizes == [16]


class TestWorkers:
    """Two processes that decode, as a large source gets them."""

    def start(self, tmp_path: Path) -> "subprocess.Popen[str]":
        large = Image.effect_noise((2000, 2000), 90)
        data = io.BytesIO()
        large.save(data, "JPEG")
        source = unpack(tmp_path / "in", {f"{c}/{i}.jpg": data.getvalue() for c in "ab" for i in range(100)})
        words = ["ingest", source, "--size", "64", "--workers", "2", "--out", tmp_path / "out"]
        line = [sys.executable, "-m", "skin_gan.data", *map(str, words)]
        child = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)
        deadline = time.monotonic() + 60
        while len(group(child.pid)) < 3:
            assert time.monotonic() < deadline and child.poll() is None, "no workers came"
            time.sleep(0.02)
        return child

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_end_with_the_ingest(self, tmp_path: Path, number: signal.Signals) -> None:
        child = self.start(tmp_path)
        child.send_signal(number)
        errors = child.communicate(timeout=30)[1]
        deadline = time.monotonic() + 10
        while group(child.pid):
            assert time.monotonic() < deadline, "a worker is left"
            time.sleep(0.1)
        assert "Traceback" not in errors or number == signal.SIGKILL  # then the workers can only fail
        assert not (tmp_path / "out").exists()

    def test_give_the_same_store(self, tmp_path: Path) -> None:
        source = small(tmp_path / "in")
        one, two = make(source, tmp_path / "one", workers=1), make(source, tmp_path / "two", workers=2)
        assert one.fingerprint == two.fingerprint
        assert (one.images(16) == two.images(16)).all()


def group(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, sid = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            except OSError:
                continue
            if int(sid) == session and state != "Z":
                found.append(int(entry.name))
    return found


class TestCommandLine:
    def test_help_is_quick_and_teaches(self) -> None:
        start = time.perf_counter()
        result = command("--help")
        assert time.perf_counter() - start < 1.0
        assert result.returncode == 0 and "HAM10000_images_part_1.zip" in result.stdout

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["ingest", "x"], "--size"),
            (["ingest", "x", "--size", "0"], "4 to 1024"),
            (["ingest", "x", "--size", "32", "--background", "blue"], "#rrggbb"),
            (["show", "nowhere"], "is not a store"),
            (["frobnicate"], "show"),
        ],
    )
    def test_wrong_use_is_explained(self, words: list[str], said: str) -> None:
        result = cli(*words)
        assert result.returncode == 2 and said in result.stderr

    def test_an_error_is_one_line_for_the_shell_too(self, tmp_path: Path) -> None:
        result = command("ingest", tmp_path / "nowhere", "--size", "16")
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1

    def test_show_counts_lesions_per_part(self, tmp_path: Path) -> None:
        make(ham10000(tmp_path / "in"), tmp_path / "out")
        result = cli("show", tmp_path / "out", "--fold", "1")
        assert result.returncode == 0
        assert "PARTIAL" in result.stdout and "28 images of 14 lesions" in result.stdout
        assert "Fold 1" in result.stdout


def damage(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text)


class TestUnreadableStores:
    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("store.json", b"{"),
            ("store.json", b"[]"),
            ("store.json", b'{"format": 1}'),
            ("store.json", b'{"format": 99}'),
            ("manifest.csv", b""),
            ("manifest.csv", b"image_id,lesion_id,dx,group,sha256\n"),
            ("images-16.npy", b""),
            ("images-16.npy", b"\x93NUMPY\x01\x00 cut"),
        ],
    )
    def test_damage_is_one_clear_error(self, tmp_path: Path, file: str, text: bytes) -> None:
        make(small(tmp_path / "in"), tmp_path / "out")
        damage(text)(tmp_path / "out" / file)
        with pytest.raises(SkinGanError, match="damaged or not readable"):
            store = open_store(tmp_path / "out")
            store.images(16)
            _ = store.manifest

    def test_images_that_are_cut(self, tmp_path: Path) -> None:
        store = make(small(tmp_path / "in"), tmp_path / "out")
        with open(tmp_path / "out" / "images-16.npy", "r+b") as file:
            file.truncate(500)
        with pytest.raises(SkinGanError, match=r"images-16.npy"):
            store.images(16)

    def test_a_size_that_is_not_there_names_those_that_are_and_the_command(self, tmp_path: Path) -> None:
        store = make(small(tmp_path / "in"), tmp_path / "out", 16, 32)
        with pytest.raises(SkinGanError, match=r"size 64.*16, 32.*ingest .*in --size 64 --out"):
            store.images(64)
