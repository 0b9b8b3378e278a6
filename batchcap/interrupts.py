"""SIGINT and SIGTERM as an exception that never falls into the middle of a commit."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The first signal, raised in the main thread. No ``Exception``: nothing that handles errors may swallow it.

    Args:
        signum: the signal's number; the exit code of the command line is 128 more.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class InterruptGuard:
    """While entered, the first SIGINT or SIGTERM raises `Interrupted`, at once or at the end of `shielded`.

    The second one meets the handlers that were there before, so a run that hangs in its clean-up can still be ended.
    Only the main thread may install handlers; elsewhere the guard does nothing. A signal that is ignored (``nohup``, a
    background job of ``sh``) stays ignored.
    """

    def __init__(self) -> None:
        self._previous: dict[signal.Signals, Any] = {}
        self._shields = 0
        self._waiting: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """A signal that arrives in this block is raised at its end."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if self._shields == 0 and self._waiting is not None:
            raise Interrupted(self._waiting)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._restore()
        if self._shields:
            self._waiting = number
        else:
            raise Interrupted(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
