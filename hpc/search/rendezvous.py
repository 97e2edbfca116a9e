"""How the nodes of one job find its Ray, for a search on several nodes. No torch, no Ray.

The first node's task starts Ray and writes the address to a file. The other nodes' tasks join while the file
has that address. Only the user can read the file: its token allows running anything in that Ray.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.io import read_json, unwritable

PEER = "SKIN_GAN_PEER"  # environment variable of a job of several tasks: the name of its last node


@dataclass(frozen=True)
class Head:
    """The Ray that the first node has started."""

    address: str  # host:port
    token: str


@dataclass(frozen=True)
class Meeting:
    """The file with the address of Ray for one run of one job; every run has its own file."""

    path: Path

    @classmethod
    def of(cls, run: RunFolder, job: str, attempt: str) -> Meeting:
        return cls(run.jobs / f"{job}.ray" / f"{attempt}.json")

    def head(self) -> Head | None:
        """The announced Ray; None if there is none."""
        content = read_json(self.path)
        return Head(**content) if content else None

    def points_to(self, head: Head) -> bool:
        """Whether the file still names this Ray."""
        return self.head() == head

    def announce(self, head: Head) -> None:
        """Write the file atomically, readable by the user only. Raises SkinGanError if that fails."""
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            part.unlink(missing_ok=True)
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({"address": head.address, "token": head.token}, file)
            os.replace(part, self.path)
        except OSError as e:
            raise unwritable(self.path, e) from e

    def forget(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def forget_earlier(self) -> None:
        """Remove the files of killed runs of this job. The caller holds the job's lock."""
        for path in self.path.parent.glob("*"):
            path.unlink(missing_ok=True)


def own_address() -> str:
    """The address at which the job's other nodes reach this one: that of the interface towards them.

    Its host name is no help: many machines resolve their own to a loopback address.
    """
    peer = os.environ[PEER]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((peer, 9))  # sends nothing, only selects the interface
            return s.getsockname()[0]
    except OSError as e:
        raise SkinGanError(
            f"{socket.gethostname()} cannot reach {peer} by name ({e}), as Ray on several nodes must: ask "
            "the cluster's administrators, or set profile.nodes=1"
        ) from e
