"""How the nodes of one job meet, for a search that spans several. No torch, no Ray.

The first node's task starts Ray, and says in a file where it is. Those of the others join it for as long as
the file says so. The file is for its user alone: who knows the token may run anything in that Ray.
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
    """The file in which one run of one job says where its Ray is. Another run has another file."""

    path: Path

    @classmethod
    def of(cls, run: RunFolder, job: str, attempt: str) -> Meeting:
        return cls(run.jobs / f"{job}.ray" / f"{attempt}.json")

    def head(self) -> Head | None:
        """Where Ray is, or None while there is none."""
        said = read_json(self.path)
        return Head(**said) if said else None

    def names(self, head: Head) -> bool:
        """Whether the file is still about this Ray."""
        return self.head() == head

    def announce(self, head: Head) -> None:
        """Write the file, whole and closed to others. Raises SkinGanError where that is not possible."""
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
        self.path.unlink(missing_ok=True)

    def forget_earlier(self) -> None:
        """Remove what killed runs of this job have left; called by one that holds the job's lock."""
        for path in self.path.parent.glob("*"):
            path.unlink(missing_ok=True)


def own_address() -> str:
    """This node's address as the job's other nodes reach it: that of the interface towards them.

    Its own name would not do: many machines resolve it to a loopback address.
    """
    peer = os.environ[PEER]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((peer, 9))  # sends nothing: it only chooses the interface
            return s.getsockname()[0]
    except OSError as e:
        raise SkinGanError(
            f"{socket.gethostname()} does not reach {peer} by its name ({e}): Ray over several nodes needs "
            "that; ask the cluster's administrators, or set profile.nodes=1"
        ) from e
