"""What a sweep keeps of the code it was made with, from a checkout with changes of every kind."""

import subprocess
from pathlib import Path

import pytest

from hpc.state import provenance
from skin_gan.folders import RunFolder


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A checkout with one commit, whose owner likes coloured differences without prefixes."""
    root = tmp_path / "checkout"
    (root / "hpc").mkdir(parents=True)
    (root / "hpc" / "a.py").write_text("a = 1\n")
    (root / "text").write_text("one\n\n")
    git(root, "init", "-q")
    for name, value in {
        "user.name": "n", "user.email": "n@example.org", "color.ui": "always", "diff.noprefix": "true",
    }.items():  # fmt: skip
        git(root, "config", name, value)
    git(root, "add", ".")
    git(root, "commit", "-qm", "all")
    monkeypatch.setattr(provenance, "ROOT", root)
    return root


def test_changes_can_be_applied_to_the_commit_whatever_bytes_they_have(checkout, tmp_path):
    changed = {"hpc/a.py": b"a = 2  # \xe9t\xe9\n", "text": b"one\n\n\n \n", "new.bin": b"\0\1\2\xff"}
    for name, content in changed.items():
        (checkout / name).write_bytes(content)
    git(checkout, "add", "new.bin")
    (checkout / "untracked é").touch()
    code = provenance.freeze(RunFolder(tmp_path))
    assert (code / "untracked.txt").read_text() == "untracked é\n"
    git(checkout, "reset", "-q", "--hard")
    assert not (checkout / "new.bin").exists()
    git(checkout, "apply", str(code / "changes.diff"))
    assert {name: (checkout / name).read_bytes() for name in changed} == changed


def test_of_a_checkout_too_slow_to_ask_it_is_not_said_that_nothing_changed(checkout, tmp_path, monkeypatch):
    assert provenance.commit()["modified"] is False
    (checkout / "text").write_text("two\n")
    assert provenance.commit()["modified"] is True
    asked = subprocess.run

    def slow(command, **options):
        if command[3] != "rev-parse":
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return asked(command, **options)

    monkeypatch.setattr(subprocess, "run", slow)
    made = provenance.commit()
    assert made["modified"] is None and len(made["commit"]) == 40
    assert provenance.code_of(made).endswith(", perhaps with local changes")
    assert not (provenance.freeze(RunFolder(tmp_path)) / "changes.diff").exists()


def test_outside_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit() == {"commit": None}
    assert provenance.code_of(provenance.commit()) == "commit None"


def test_profiles_do_not_make_a_checkout_count_as_changed(checkout):
    (checkout / "slurm").mkdir()
    (checkout / "slurm" / "ours.yaml").write_text("kind: slurm\n")
    assert provenance.commit()["modified"] is False
    (checkout / "mine.yaml").write_text("kind: slurm\n")
    assert provenance.commit()["modified"] is True
    assert provenance.commit(str(checkout / "mine.yaml"))["modified"] is False
    (checkout / "other.yaml").touch()
    assert provenance.commit(str(checkout / "mine.yaml"))["modified"] is True
