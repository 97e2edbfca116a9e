"""The state of each Slurm job of a sweep, and why it ended. No torch.

squeue is authoritative for live jobs, sacct for ended ones. On clusters without accounting, the job records
and logs on disk tell how a job ended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.settings.profiles import ProfileSettings
from hpc.slurm import client
from hpc.state import submissions
from hpc.state.logs import END, last_words, tail
from hpc.state.records import KILLED, error_of
from hpc.state.submissions import Submission
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder

DONE, FAILED, LOST, CANCELLED, UNKNOWN = "done", "failed", "lost", "cancelled", "unknown"
# The cause of a job's end by Slurm's final state. Any other state names its cause itself.
CAUSES = {
    "OUT_OF_MEMORY": "out of memory", "TIMEOUT": "time limit", "PREEMPTED": "preemption",
    "NODE_FAIL": "lost node", "CANCELLED": CANCELLED, "COMPLETED": "",
}  # fmt: skip
LATE = ("PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "COMPLETING")  # sacct may lag behind squeue
# Patterns in a job's log: INSIDE for jobs that failed by themselves, OUTSIDE for jobs that Slurm ended. When
# one process of a job fails, Slurm cancels the STEP, not the JOB.
INSIDE = {r"oom.kill|[Oo]ut [Oo]f [Mm]emory": "out of memory", r"timed-out too many times": "time limit"}
OUTSIDE = {
    r"DUE TO TIME LIMIT": "time limit", r"DUE TO PREEMPTION": "preemption",
    r"DUE TO NODE FAILURE": "lost node", r"JOB \S+ ON \S+ CANCELLED AT \S+ \*\*\*": CANCELLED,
}  # fmt: skip


@dataclass(frozen=True)
class JobState:
    """One job of a sweep as status shows it."""

    submission: Submission
    state: str  # Slurm's state in lower case while the job is queued; DONE, FAILED, ... once it has ended
    why: str = ""  # why the job is pending, or why it failed
    restarts: int = 0
    left: str = ""  # time left
    node: str = ""
    alive: bool = False

    @property
    def job(self) -> str:
        return self.submission.job

    @property
    def id(self) -> str:
        return self.submission.id


@dataclass(frozen=True)
class Queue:
    """A sweep's submissions, and which of them are in Slurm's queue."""

    submitted: tuple[Submission, ...] = ()  # in their order
    alive: Mapping[str, client.Queued] = field(default_factory=dict)  # by id
    trouble: str = ""  # why Slurm could not be asked

    @property
    def latest(self) -> dict[str, Submission]:
        """The last submission of each job, by the job's name."""
        return {s.job: s for s in self.submitted}

    @property
    def ending(self) -> int:
        """The number of jobs that Slurm is cleaning up; each will end or be requeued."""
        return sum(job.state == client.COMPLETING for job in self.alive.values())


def ask(run: RunFolder, p: ProfileSettings) -> Queue:
    """Read the submissions, then ask Slurm for its queue.

    Call this before reading job records: the record of a job that is not in the queue is then its last one.
    """
    submitted = tuple(submissions.every(run))
    try:
        client.use(p)
        return Queue(submitted, client.queue(run.path))
    except SkinGanError as e:
        return Queue(submitted, trouble=str(e))


def job_states(run: RunFolder, q: Queue, records: Mapping[str, Mapping[str, Any]]) -> list[JobState]:
    """The state of each job's last submission, and of earlier submissions that are still in the queue."""
    latest = q.latest
    ended = {} if q.trouble else client.ended(s.id for s in latest.values() if s.id not in q.alive)
    last = {s.id for s in latest.values()}
    states = [queued_state(s, q.alive[s.id]) for s in q.submitted if s.id in q.alive and s.id not in last]
    for name, s in latest.items():
        record = records.get(name, {})
        if s.id in q.alive:
            states.append(queued_state(s, q.alive[s.id], record))
        else:
            states.append(ended_state(run, s, record, ended.get(s.id, ""), asked=not q.trouble))
    return states


def queued_state(s: Submission, q: client.Queued, record: Mapping[str, Any] | None = None) -> JobState:
    """The state of a job in the queue; `why` is why it is pending, or what it waits for while it runs."""
    own = record if record and record.get("slurm") == s.id else {}
    why = q.reason if q.state == client.PENDING else own.get("waiting", "")
    return JobState(s, q.state.lower(), why, q.restarts, q.left, q.nodes, alive=True)


def ended_state(
    run: RunFolder, s: Submission, record: Mapping[str, Any], ended: str, asked: bool
) -> JobState:
    """The state of a job that is not in the queue; `asked`: whether the queue could be read."""
    if record.get("slurm") != s.id:
        record = {}  # it belongs to an earlier submission: this one has not started
    state, node, restarts = record.get("state", UNKNOWN), record.get("node") or "", record.get("restarts", 0)
    if record.get("limit"):
        return JobState(s, state, str(record.get("error", "")), restarts, node=node)
    if state == DONE or (ended == "COMPLETED" and state != FAILED):
        return JobState(
            s, DONE, "", restarts, node=node
        )  # over NFS the record may arrive after sacct's state
    error = error_of(run, s.job, record)
    if not asked:
        return JobState(s, state, error, restarts, node=node)
    # The log belongs to rank 0 and also holds earlier runs of a requeued job. So it is not read where another
    # rank recorded the error (rank 0 only saw a lost connection), and only its end where rank 0 recorded one.
    size = 0 if error != record.get("error", "") else 2000 if state == FAILED else END
    by_itself = state == FAILED and not re.search(KILLED, error)
    log = tail(s.log(run), size)
    cause = cause_of(ended, error + log, by_itself)
    if cause == CANCELLED:
        return JobState(s, CANCELLED, "", restarts, node=node)
    if state == FAILED:
        return JobState(s, FAILED, ": ".join(filter(None, [cause, error])), restarts, node=node)
    if not cause and not error and (words := last_words(log, sure=bool(record))):
        # A job without a record died before it could write one: srun, Submitit or Python printed the reason.
        failed = not record or ended == "FAILED"
        return JobState(s, FAILED if failed else LOST, words, restarts, node=node)
    why = ": ".join(filter(None, [cause, error])) or unexplained_end(s.log(run), ended)
    return JobState(s, LOST, why, restarts, node=node)


def unexplained_end(log: Path, ended: str) -> str:
    """The message for a job whose end neither its record nor its log explains."""
    if ended == "FAILED" and not log.exists():
        return f"it failed before it could write {log}: can every node write there?"
    return "it left the queue without a word"


def cause_of(ended: str, log: str, by_itself: bool = False) -> str:
    """The cause of a job's end, or "" if neither Slurm nor the log names one. The log's last match counts.

    Where the record or sacct shows that the job failed by itself, messages about Slurm ending it are ignored:
    they belong to an earlier run, or to processes that Slurm ended afterwards.
    """
    if ended and ended not in ("FAILED", *LATE):
        return CAUSES.get(ended, ended.replace("_", " ").lower())
    words = INSIDE if by_itself or ended == "FAILED" else INSIDE | OUTSIDE
    matches = [(match.start(), cause) for word, cause in words.items() for match in re.finditer(word, log)]
    # KILLED comes last: Slurm kills processes for any of the other causes too.
    return max(matches)[1] if matches else "a killed process" if re.search(KILLED, log) else ""
