"""For all tests: Ctrl-C works in what they start, and none leaves its environment to another file's."""

import os
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """A script's background job ignores SIGINT, and what it starts inherits that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def environment() -> Iterator[None]:
    """A launch on this machine sets variables for its jobs."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
