"""For all tests: Ctrl-C works in what they start."""

import signal


def pytest_configure() -> None:
    """A script's background job ignores SIGINT, and what it starts inherits that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
