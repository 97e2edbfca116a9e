"""Reads the end of a job's log, and finds the lines that say why the job ended. No torch."""

from __future__ import annotations

import re
from pathlib import Path

END = 20_000  # bytes of a log that are searched
LENGTH = 300  # characters of a reason at most

# Lines that only follow from a job's end, or that every job prints: they give no reason.
NOISE = re.compile(
    r"srun: error: \S+: tasks? \S+: (Exited with exit code|Terminated)"
    r"|srun: (Job step aborted|Terminating|Force Terminated|Complete|Step created)"
    r"|srun: error: .*step creation temporarily disabled"
    r"|srun: (launch/slurm|job \d+|mpi/)|slurmstepd: error: \*\*\* (STEP|JOB)"
    r"|submitit (INFO|WARNING)|submitit ERROR .* triggered an exception"
    r"|Traceback \(|During handling of|The above exception|.*\w*warn(ing)?\b"
    r"|^[\s|=+\-*#>.^~]*$",
    re.IGNORECASE,
)
# An exception as Python prints it, and words of other programs' errors.
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Died|Lost|Timeout)\b(:|$)")
ERROR = re.compile(
    r"\b(errors?|fatal|fail(ed|ure|s)|cannot|can't|could not|couldn't|unable|denied|not found|no such|"
    r"invalid|exceed(ed|s)|exclusive|abort(ed)?|refused|illegal|segmentation fault|bus error|killed|"
    r"core dumped|unknown|unrecognized|unsupported|not permitted|no space|undefined symbol|missing)\b",
    re.IGNORECASE,
)
OURS = re.compile(r"(skin_gan\.errors\.)?SkinGanError: ")  # left out: the message is enough
SCRIPT = re.compile(r"^\S*/slurm_script: (?=line )")  # the shell's name of the job's script


def tail(log: Path, size: int = END) -> str:
    """The last `size` bytes of a log; "" if the job never started."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_words(text: str, sure: bool = False) -> str:
    """Why a process ended, as one line from the end of its output; "" if unknown.

    This is the exception that it ended with, else its last two lines with an error, else its last two lines.
    `sure`: leave out the last of these.
    """
    lines = [SCRIPT.sub("job script, ", line.rstrip()) for line in text.splitlines()]
    # Indented lines belong to the line before them: a traceback, or a source line of a warning.
    lines = [line for line in dict.fromkeys(lines) if line[:1].strip() and not NOISE.match(line)]
    errors = [line for line in lines if EXCEPTION.match(line) or ERROR.search(line)]
    if errors and EXCEPTION.match(errors[-1]):
        errors = errors[-1:]
    reason = OURS.sub("", "; ".join((errors or ([] if sure else lines))[-2:]))
    return reason if len(reason) <= LENGTH else reason[: LENGTH - 3] + "..."
