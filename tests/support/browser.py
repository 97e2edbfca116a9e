"""Headless Chromium."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")  # fmt: skip


def open_page(url: str, profile: Path, *flags: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Prints the page's DOM after its scripts ran for a while; the test is skipped without a Chromium."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here: install Debian's package chromium")
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, "--virtual-time-budget=30000"]
    command += ["--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
