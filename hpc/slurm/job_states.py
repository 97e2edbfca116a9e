"""How each Slurm job of a sweep is, and why it ended as it did: squeue for the living, sacct for the dead,
and the records and logs on disk where a cluster keeps no accounts. No torch.
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
# What a job died of, by Slurm's final state; of other states by their own words.
CAUSES = {
    "OUT_OF_MEMORY": "out of memory", "TIMEOUT": "time limit", "PREEMPTED": "preemption",
    "NODE_FAIL": "lost node", "CANCELLED": CANCELLED, "COMPLETED": "",
}  # fmt: skip
LATE = ("PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "COMPLETING")  # accounts may be behind the queue
# What the job's log says: of how it failed by itself, and of how Slurm ended it. When one of a job's
# processes fails, Slurm cancels the STEP, not the JOB.
INSIDE = {r"oom.kill|[Oo]ut [Oo]f [Mm]emory": "out of memory", r"timed-out too many times": "time limit"}
OUTSIDE = {
    r"DUE TO TIME LIMIT": "time limit", r"DUE TO PREEMPTION": "preemption",
    r"DUE TO NODE FAILURE": "lost node", r"JOB \S+ ON \S+ CANCELLED AT \S+ \*\*\*": CANCELLED,
}  # fmt: skip


@dataclass(frozen=True)
class JobState:
    """One job of a sweep as status shows it."""

    submission: Submission
    state: str  # pending, running, ... as Slurm says, in lower case; of those that ended: DONE, FAILED, ...
    why: str = ""  # the reason of a pending job, the cause of one that failed
    restarts: int = 0
    left: str = ""
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
    """A sweep's submissions, and which of them were in Slurm's queue thereafter."""

    submitted: tuple[Submission, ...] = ()  # in their order
    alive: Mapping[str, client.Queued] = field(default_factory=dict)  # by id
    trouble: str = ""  # why Slurm could not be asked

    @property
    def latest(self) -> dict[str, Submission]:
        """The last submission of each job, by the job's name."""
        return {s.job: s for s in self.submitted}

    @property
    def ending(self) -> int:
        """Jobs that Slurm is cleaning up: they end, or are requeued."""
        return sum(job.state == client.COMPLETING for job in self.alive.values())


def ask(run: RunFolder, p: ProfileSettings) -> Queue:
    """Read the submissions, then ask Slurm for its queue.

    To be asked before records are read: of a job that is not in the queue the record is then the last one.
    """
    submitted = tuple(submissions.every(run))
    try:
        client.use(p)
        return Queue(submitted, client.queue(run.path))
    except SkinGanError as e:
        return Queue(submitted, trouble=str(e))


def job_states(run: RunFolder, q: Queue, records: Mapping[str, Mapping[str, Any]]) -> list[JobState]:
    """The state of each job's last submission, and of earlier ones that are in the queue."""
    latest = q.latest
    ended = {} if q.trouble else client.ended(s.id for s in latest.values() if s.id not in q.alive)
    last = {s.id for s in latest.values()}
    states = [living(s, q.alive[s.id]) for s in q.submitted if s.id in q.alive and s.id not in last]
    for name, s in latest.items():
        record = records.get(name, {})
        if s.id in q.alive:
            states.append(living(s, q.alive[s.id], record))
        else:
            states.append(buried(run, s, record, ended.get(s.id, ""), asked=not q.trouble))
    return states


def living(s: Submission, q: client.Queued, record: Mapping[str, Any] | None = None) -> JobState:
    """The state of a job in the queue: why it is pending, or what it waits for while it runs."""
    own = record if record and record.get("slurm") == s.id else {}
    why = q.reason if q.state == client.PENDING else own.get("waiting", "")
    return JobState(s, q.state.lower(), why, q.restarts, q.left, q.nodes, alive=True)


def buried(run: RunFolder, s: Submission, record: Mapping[str, Any], ended: str, asked: bool) -> JobState:
    """The state of a job that is not in the queue, or of which the queue could not be asked."""
    if record.get("slurm") != s.id:
        record = {}  # of an earlier job: this one has not started
    state, node, restarts = record.get("state", UNKNOWN), record.get("node") or "", record.get("restarts", 0)
    if state == DONE or (ended == "COMPLETED" and state != FAILED):
        return JobState(s, DONE, "", restarts, node=node)  # over NFS the record may be seen later than that
    error = error_of(run, s.job, record)
    if not asked:
        return JobState(s, state, error, restarts, node=node)
    # The log is the first process's, and of one that was requeued tells of its earlier runs too: an error
    # of its own was the last, and what another process died of the first sees as a lost connection.
    size = 0 if error != record.get("error", "") else 2000 if state == FAILED else END
    by_itself = state == FAILED and not re.search(KILLED, error)
    log = tail(s.log(run), size)
    cause = cause_of(ended, error + log, by_itself)
    if cause == CANCELLED:
        return JobState(s, CANCELLED, "", restarts, node=node)
    if state == FAILED:
        return JobState(s, FAILED, ": ".join(filter(None, [cause, error])), restarts, node=node)
    if not cause and not error and (words := last_words(log, sure=bool(record))):
        # One without a record died before it could write one: srun's, Submitit's or Python's words say why.
        failed = not record or ended == "FAILED"
        return JobState(s, FAILED if failed else LOST, words, restarts, node=node)
    why = ": ".join(filter(None, [cause, error])) or wordless(s.log(run), ended)
    return JobState(s, LOST, why, restarts, node=node)


def wordless(log: Path, ended: str) -> str:
    """What can be said of a job of which neither record nor log says how it ended."""
    if ended == "FAILED" and not log.exists():
        return f"it failed before it could write {log}: can every node write there?"
    return "it left the queue without a word"


def cause_of(ended: str, log: str, by_itself: bool = False) -> str:
    """What a job died of, or "" where neither Slurm nor the log names it. The log's last mention counts.

    What Slurm ended is no cause where the job failed by itself, as its record or sacct says: the log tells of
    an earlier run, or of processes that Slurm ended thereafter.
    """
    if ended and ended not in ("FAILED", *LATE):
        return CAUSES.get(ended, ended.replace("_", " ").lower())
    words = INSIDE if by_itself or ended == "FAILED" else INSIDE | OUTSIDE
    said = [(match.start(), cause) for word, cause in words.items() for match in re.finditer(word, log)]
    # Last, since what Slurm ends for any of these causes is killed too.
    return max(said)[1] if said else "a killed process" if re.search(KILLED, log) else ""
