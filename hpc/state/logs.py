"""The end of a job's log, and the lines of it that say why it ended. No torch."""

from __future__ import annotations

import re
from pathlib import Path

END = 20_000  # bytes of a log in which its last words are looked for
LENGTH = 300  # characters of a cause

# What follows from an end, or accompanies every job, and says no reason.
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
# An exception as Python prints it, and what other programs say of an error.
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Died|Lost|Timeout)\b(:|$)")
ERROR = re.compile(
    r"\b(errors?|fatal|fail(ed|ure|s)|cannot|can't|could not|couldn't|unable|denied|not found|no such|"
    r"invalid|exceed(ed|s)|exclusive|abort(ed)?|refused|illegal|segmentation fault|bus error|killed|"
    r"core dumped|unknown|unrecognized|unsupported|not permitted|no space|undefined symbol|missing)\b",
    re.IGNORECASE,
)
OURS = re.compile(r"(skin_gan\.errors\.)?SkinGanError: ")  # its text says all
SCRIPT = re.compile(r"^\S*/slurm_script: (?=line )")  # before what the shell says of a line of it


def tail(log: Path, size: int = END) -> str:
    """The end of a log; a job that never started has none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_words(text: str, sure: bool = False) -> str:
    """Why a process ended, from the end of what it printed, as one line; "" where it does not say.

    The exception that it ended with, else its last two lines that speak of an error, else (unless only what
    is `sure` is wanted) its last two lines.
    """
    lines = [SCRIPT.sub("job script, ", line.rstrip()) for line in text.splitlines()]
    # What is indented belongs to the line before it: a trace, or a source line of a warning.
    told = [line for line in dict.fromkeys(lines) if line[:1].strip() and not NOISE.match(line)]
    telling = [line for line in told if EXCEPTION.match(line) or ERROR.search(line)]
    if telling and EXCEPTION.match(telling[-1]):
        telling = telling[-1:]
    words = "; ".join((telling or ([] if sure else told))[-2:])
    words = OURS.sub("", words)
    return words if len(words) <= LENGTH else words[: LENGTH - 3] + "..."
