"""What jobs need where they run: told before many of them find it out, or seen from the launch."""

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest
from plans import WORDS, plan_of

from hpc.settings.compose import compose
from hpc.slurm import client
from hpc.stages.prepare import preflight
from hpc.stages.scratch import stage_data
from skin_gan.errors import SkinGanError
from skin_gan.io import lock

CPU = ("classes=[df]", "cluster=cpu")


@pytest.fixture
def clients(tmp_path, monkeypatch) -> Path:
    """A folder with a scontrol that does not answer, first on the path."""
    folder = tmp_path / "clients"
    folder.mkdir()
    (folder / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_python_without_scontrol_is_told_before_a_search_reaches_its_time_limit(
    tmp_path, monkeypatch, clients
):
    preflight(plan_of(tmp_path, *CPU))  # a Slurm that is busy is no fault
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SkinGanError, match=r"finds no scontrol, which requeues"):
        preflight(plan_of(tmp_path, *CPU))
    preflight(plan_of(tmp_path, *CPU, "cluster=local"))


def test_a_node_without_its_scratch_is_told_before_the_searches_find_it_out(tmp_path, clients):
    with pytest.raises(SkinGanError, match="a variable in it is not set on this node"):
        preflight(plan_of(tmp_path, *CPU, "profile.scratch=$NO_SUCH_VARIABLE"))
    (tmp_path / "file").touch()
    with pytest.raises(SkinGanError, match=r"cannot write .*/file/mine"):
        preflight(plan_of(tmp_path, *CPU, f"profile.scratch={tmp_path}/file/mine"))
    preflight(plan_of(tmp_path, *CPU, f"profile.scratch={tmp_path}/scratch"))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_users_of_one_scratch_have_copies_of_their_own(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, *CPU, f"profile.scratch={tmp_path}/scratch")
    stage_data(plan)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    stage_data(plan)
    assert len([*(tmp_path / "scratch").glob("skin-gan-*/images-32.npy")]) == 2
    assert len([*(tmp_path / "scratch").glob("*.lock")]) == 2


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(SkinGanError, match=f"no file locks in {tmp_path}"), lock(tmp_path / "lock"):
        pass


def test_what_is_on_a_disk_of_this_machine_is_warned_of(tmp_path, monkeypatch):
    shared, local = tmp_path / "shared", tmp_path / "local"
    for folder in (shared / "bin", local / "bin"):
        folder.mkdir(parents=True)
        (folder / "python").symlink_to("/usr/bin/python3")
    (shared / "link").symlink_to(local)
    monkeypatch.setattr(client, "filesystem", lambda p: "nfs4" if p.is_relative_to(shared) else "ext4")
    monkeypatch.setattr(sys, "executable", str(shared / "bin" / "python"))

    def warned(*words: str) -> str:
        return "\n".join(client.warnings(compose([*WORDS, *CPU, f"results={shared}", *words])))

    assert warned() == "" == warned(f"data={shared}/store", "profile.python=/usr/bin/env python")
    assert f"results={shared}/link (ext4)" in warned(f"results={shared}/link")
    assert f"data={local}/store (ext4)" in warned(f"data={local}/store")
    monkeypatch.setattr(sys, "executable", str(shared / "link" / "bin" / "python"))
    assert f"Python: {local}/bin/python (ext4)" in warned()
    assert f"{local}/x.sif (ext4)" in warned(f"profile.python=apptainer exec {local}/x.sif python")
