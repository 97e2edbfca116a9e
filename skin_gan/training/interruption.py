"""Defers signals that ask a process to stop until it has saved its state."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# Ctrl-C, the end of a job, and Slurm's warning before it (chosen by Submitit).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Interruption:
    """A block in which signals are only recorded; a second Ctrl-C or SIGTERM acts at once.

        with Interruption() as interruption:
            while work_is_left():
                step()
                if interruption.noted:
                    save()
                    interruption.act()

    `act`, like the end of the block, passes recorded signals to the earlier handlers. If these return or
    ignore the signal, the work continues. Only the main thread of a process can handle signals: in others the
    block does nothing.
    """

    def __init__(self) -> None:
        self.noted: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not None:  # None: set by C code, cannot be restored
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        self._raise_noted()

    def act(self) -> None:
        """Pass the recorded signals to the handlers from before the block."""
        self._restore()
        self._raise_noted()
        self.__enter__()

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, warning = number in self.noted, number == signal.SIGUSR2
        self.noted.append(number)
        if again and not warning:
            self._restore()
            signal.raise_signal(number)
            self.__enter__()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _raise_noted(self) -> None:
        noted, self.noted = dict.fromkeys(self.noted), []
        for number in noted:
            signal.raise_signal(number)
