"""The exception with a message for the user, and the text that records keep of any exception."""

from __future__ import annotations

import errno

# Errors of a disk or a quota. Other libraries raise their own errors instead, which do not name the cause.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)


class SkinGanError(Exception):
    """An error that the user can fix: the text says what was expected, what was got, and what to do.

    Command lines print it as one line and exit with 2; they catch no other exception that way.
    """


def cause(error: BaseException) -> str:
    """The text of an error for a job's record or a trial's state.

    That is the message of a SkinGanError, else type and message. The system's reason is added if a full or
    broken disk caused the error.
    """
    text = str(error) if isinstance(error, SkinGanError) else f"{type(error).__name__}: {error}"
    behind = error.__cause__ or error.__context__
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in DISK_ERRORS and str(behind.strerror) not in text:
            return f"{text} ({behind.strerror}{f': {behind.filename}' if behind.filename else ''})"
        behind = behind.__cause__ or behind.__context__
    return text
