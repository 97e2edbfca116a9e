"""The one exception that carries a message for the user."""


class SkinGanError(Exception):
    """Something the user can mend: the text says what was expected, what came, and what to do.

    Command lines print it as one line and exit with 2; nothing else in the project is caught that way.
    """
