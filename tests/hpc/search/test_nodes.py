"""How the nodes of a search meet, without Slurm and without Ray."""

import os
from pathlib import Path

import pytest

from hpc.jobs.task import Task
from hpc.search.rendezvous import PEER, Head, Meeting, own_address
from hpc.search.supervisor import ray_environment
from hpc.state.records import attempt, ended, record
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder

HEAD = Head("10.0.0.1:6379", "secret")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    run = RunFolder(tmp_path)
    run.jobs.mkdir()
    return run


def test_the_head_is_told_to_its_user_alone_and_to_this_run_of_the_job(run, monkeypatch):
    first = Meeting.of(run, "search-df", attempt())
    assert first.head() is None and not first.points_to(HEAD)
    first.announce(HEAD)
    assert first.points_to(HEAD) and not first.points_to(Head("10.0.0.1:6380", "secret"))
    assert [p.stat().st_mode & 0o777 for p in (first.path, first.path.parent)] == [0o600, 0o700]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    second = Meeting.of(run, "search-df", attempt())
    assert second.head() is None
    second.forget_earlier()
    assert [*first.path.parent.iterdir()] == []
    second.forget()  # nothing there is no error


def test_another_classs_meeting_is_left_alone(run):
    other = Meeting.of(run, "search-df.b", attempt())
    other.announce(HEAD)
    Meeting.of(run, "search-df", attempt()).forget_earlier()
    assert other.points_to(HEAD)


def test_a_search_has_ended_when_the_record_says_so_of_this_run(run, monkeypatch):
    assert not ended(run, "search-df")
    with record(run, "search-df"):
        assert not ended(run, "search-df")
    assert ended(run, "search-df")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not ended(run, "search-df")


def test_a_trial_does_not_take_the_jobs_other_tasks_for_its_own(tmp_path):
    job = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "n1", "PMI_SIZE": "2", "A": "b"}
    environment = ray_environment(str(tmp_path), "secret", job)
    assert not environment.keys() & (job.keys() - {"A"}) and environment["A"] == "b"
    token = Path(environment["RAY_AUTH_TOKEN_PATH"])
    assert token.read_text() == "secret" and token.stat().st_mode & 0o777 == 0o600


class Fake:
    """A driver on another node than the first, that ends at once or runs until it is not wanted."""

    made = 0
    stays = False
    stopped = False
    reason = "no network"

    def __init__(self, arguments, token, variables, held=None):
        assert arguments[0] == "join" and arguments[2] == HEAD.address and token == HEAD.token
        Fake.made += 1

    def wait(self, wanted, every):
        while self.stays and wanted():
            Fake.meeting.forget()
        return 1


@pytest.mark.parametrize("stays", [True, False])
def test_a_node_is_lent_until_the_search_ends_and_one_without_ray_fails(run, monkeypatch, stays):
    monkeypatch.setattr("hpc.jobs.task.stage_data", lambda plan: {})
    monkeypatch.setattr("hpc.jobs.task.Driver", Fake)
    Fake.made, Fake.stays, Fake.meeting = 0, stays, Meeting.of(run, "search-df", attempt())
    Fake.meeting.announce(HEAD)
    ends = iter([False, True])
    monkeypatch.setattr("hpc.jobs.task.ended", lambda *_: stays and next(ends))

    class Plan:  # what is asked of one
        pass

    Plan.run = run
    task = Task(str(run.path), "search", "df", 1, nodes=2)
    if stays:
        task.lend_node(Plan, "search-df")
        assert Fake.made == 1
    else:
        with pytest.raises(SkinGanError, match=r"keeps dying.*no network"):
            task.lend_node(Plan, "search-df")
        assert Fake.made == 3


def test_a_node_that_does_not_know_the_others_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(os.environ, PEER, "no-such-node.invalid")
    with pytest.raises(SkinGanError, match=r"no-such-node.*profile\.nodes=1"):
        own_address()
    monkeypatch.setitem(os.environ, PEER, "127.0.0.1")
    assert own_address() == "127.0.0.1"
