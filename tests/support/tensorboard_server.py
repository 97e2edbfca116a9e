"""A real TensorBoard server for tests."""

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path


class Server:
    """A TensorBoard on a folder, with the fast loader or the classic one."""

    def __init__(self, logdir: Path, *options: str) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--reload_interval", "1", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path: str, **query: str):
        url = f"http://127.0.0.1:{self.port}/data/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def wait_for(self, ready) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                if ready(self):
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise TimeoutError("TensorBoard does not show what was expected")

    def session_groups(self) -> list[dict]:
        request = {
            "startIndex": 0,
            "sliceSize": 100,
            "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"],
        }
        return self.get("plugin/hparams/session_groups", request=json.dumps(request))["sessionGroups"]

    def values(self, run: str, tag: str) -> list[tuple[int, float]]:
        return [(step, value) for _, step, value in self.get("plugin/scalars/scalars", run=run, tag=tag)]
