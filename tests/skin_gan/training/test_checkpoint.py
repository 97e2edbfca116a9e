"""Checkpoints: what is read is what was written, or one clear error and nothing lost."""

import errno
import os
import pickle
import resource
import signal
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from gan_samples import same
from hypothesis import given
from hypothesis import strategies as st

from skin_gan.errors import SkinGanError
from skin_gan.io import write_atomic
from skin_gan.training import checkpoint
from skin_gan.training.ema import Ema, decay

STATE = {"nets": OrderedDict(w=torch.randn(40, 40)), "best": None, "rng": torch.Generator().get_state()}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "trial" / "last.pt"
    checkpoint.save(path, "abc", STATE)
    return path


def test_what_is_loaded_is_what_was_saved(saved):
    assert same(checkpoint.load(saved, "abc"), STATE)
    assert [p.name for p in saved.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99, -1])
def test_a_cut_checkpoint_is_one_clear_error_and_stays_as_it_is(saved, keep):
    whole = saved.read_bytes()
    cut = whole[: int(keep * len(whole)) if 0 < keep < 1 else keep]
    saved.write_bytes(cut)
    with pytest.raises(SkinGanError, match=r"last\.pt.*move it away") as e:
        checkpoint.load(saved, "abc")
    assert "\n" not in str(e.value)
    assert saved.read_bytes() == cut


def test_a_single_flipped_bit_in_the_weights_is_noticed(saved):
    content = bytearray(saved.read_bytes())
    weights = STATE["nets"]["w"].numpy().tobytes()
    content[bytes(content).index(weights) + len(weights) // 2] ^= 1
    saved.write_bytes(content)
    with pytest.raises(SkinGanError, match="damaged"):
        checkpoint.load(saved, "abc")


def test_a_checkpoint_of_another_trial_is_refused(saved):
    with pytest.raises(SkinGanError, match="belongs to trial abc and not to xyz"):
        checkpoint.load(saved, "xyz")


class Malicious:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


@pytest.mark.parametrize("content", [Malicious(), {"weights": torch.zeros(3)}, [1, 2]])
def test_what_is_no_checkpoint_is_refused_and_never_run(tmp_path, capsys, content):
    for name, write in (("torch.pt", torch.save), ("pickle.pt", lambda c, p: p.write_bytes(pickle.dumps(c)))):
        write(content, tmp_path / name)
        with pytest.raises(SkinGanError, match=name):
            checkpoint.load(tmp_path / name, "abc")
    assert "ran" not in capsys.readouterr().out


@contextmanager
def limited(size):
    """Within, the system refuses to let a file of this process grow beyond `size` bytes, with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


LARGE = {"nets": {f"layer {i}": torch.randn(50_000) for i in range(10)}}  # 2 MB


@pytest.mark.parametrize("room", [0, 1, 150_000, 1_000_000, 1_999_000])
def test_a_disk_that_is_full_in_the_middle_is_named_and_leaves_the_checkpoint_before(saved, room):
    before = saved.read_bytes()
    with limited(room), pytest.raises(SkinGanError) as e:
        checkpoint.save(saved, "abc", LARGE)
    assert str(e.value).startswith(f"cannot write {saved}: {os.strerror(errno.EFBIG)}; free space")
    assert [p.name for p in saved.parent.iterdir()] == ["last.pt"]
    assert saved.read_bytes() == before


@pytest.mark.parametrize("write", [np.save, lambda f, x: np.savez_compressed(f, x=x)], ids=["npy", "npz"])
def test_other_writers_too_name_the_systems_reason(tmp_path, write):
    noise = np.random.default_rng(0).normal(size=300_000)
    with limited(1_000_000), pytest.raises(SkinGanError, match=os.strerror(errno.EFBIG)):
        write_atomic(tmp_path / "table", lambda file: write(file, noise))
    assert not any(tmp_path.iterdir())
    write_atomic(tmp_path / "table", lambda file: write(file, noise))
    assert any(tmp_path.iterdir())


def test_what_is_no_fault_of_the_disk_is_not_called_one(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "table", lambda file: file.write(b"half") / 0)
    assert not any(tmp_path.iterdir())


@given(shown=st.integers(1, 512), total=st.integers(1, 10**7), half_life=st.floats(0, 1e6))
def test_the_moving_average_forgets_half_in_its_half_life_and_faster_at_the_start(shown, total, half_life):
    kept = decay(shown, total, half_life)
    assert 0 <= kept < 1
    assert kept <= decay(shown, 10 * total, half_life)
    if half_life >= 1:
        assert decay(round(half_life), 10**9, round(half_life)) == 0.5
        assert kept == pytest.approx(0.5 ** (shown / min(half_life, total / 20)))


def test_the_moving_average_follows_parameters_and_copies_buffers():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    ema = Ema(net, half_life=100)
    start = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight += 1
    net(torch.randn(8, 3, 2, 2))
    ema.update(net, shown=100, total=10**6)
    torch.testing.assert_close(ema.net[0].weight, start + 0.5)
    assert same(dict(ema.net.named_buffers()), dict(net.named_buffers()))
    assert not ema.net.training
    assert not any(p.requires_grad for p in ema.net.parameters())
