"""Signals that ask a process to stop, kept until it is at a point from which it can go on later."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# Ctrl-C, the end of a job, and Slurm's warning before that (as Submitit asks for it).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Interruption:
    """A block in which signals are only noted; a second Ctrl-C or SIGTERM acts at once.

        with Interruption() as interruption:
            while work_is_left():
                step()
                if interruption.noted:
                    save()
                    interruption.act()

    `act`, like the end of the block, gives noted signals to those who handled them before the block. Where
    these return, or ignore the signal, work goes on. Only a process's main thread can handle signals: in
    others the block does nothing.
    """

    def __init__(self) -> None:
        self.noted: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not None:  # set by C code: it could not be put back
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        self._raise_noted()

    def act(self) -> None:
        """Let the noted signals have the effect that they would have had without the block."""
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
