"""What the tests of metrics share: one thread, and the network that measures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from skin_gan.metrics.cache import one_thread
from skin_gan.metrics.features import Extractor, extractor


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that spin on a busy machine make these tests ten times as slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with one_thread():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lite() -> Extractor:
    return extractor()
