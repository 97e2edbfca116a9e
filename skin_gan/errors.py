"""The one exception that carries a message for the user, and what records keep of any other."""

from __future__ import annotations

import errno

# A disk's or a quota's, which other libraries answer with an error of their own that does not name it.
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)


class SkinGanError(Exception):
    """Something the user can mend: the text says what was expected, what was got, and what to do.

    Command lines print it as one line and exit with 2; nothing else in the project is caught that way.
    """


def cause(error: BaseException) -> str:
    """What a job's record or a trial's state says of the error that ended it.

    The text of one that was written for the user; of others with the type, and with the system's reason where
    a full or broken disk is behind it.
    """
    text = str(error) if isinstance(error, SkinGanError) else f"{type(error).__name__}: {error}"
    behind = error.__cause__ or error.__context__
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in OF_THE_DISK and str(behind.strerror) not in text:
            return f"{text} ({behind.strerror}{f': {behind.filename}' if behind.filename else ''})"
        behind = behind.__cause__ or behind.__context__
    return text
