"""For tests of hpc: a dry run times this machine only in those that take long anyway."""

import pytest

from hpc.stages.calibrate import Speeds


@pytest.fixture(autouse=True)
def _assumed_speed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("slow") is None:
        updates = {"head": 400.0, "cnn": 8.0, "resnet18": 1.0, "resnet50": 0.4}
        speeds = Speeds(100.0, 2.0, 100.0, 10.0, 1e7, updates, "assumed by the tests")
        monkeypatch.setattr("hpc.cli.cost.timed_here", lambda e: speeds)
