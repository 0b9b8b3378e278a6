"""Signals that end a program as an exception that never falls into the middle of a batch; a later one ends the process.

SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal is closed).
"""

from __future__ import annotations

import _thread
import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, Self

# Windows has no SIGHUP.
_SIGNALS: Final = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# Signals within so many seconds are one: `timeout` and process managers signal the process and then its group.
_ONE_SECONDS: Final = 0.5
# So many seconds after the first signal, or after the end of the batch that it met, a program that still runs is ended:
# it hangs in a call into the system, such as the reading of a disk that does not answer.
_ENDING_SECONDS: Final = 1.5
_LOOK_SECONDS: Final = 0.05
_FETCH_SECONDS: Final = 0.2
_SHOW_CURSOR: Final = b"\x1b[?25h\n"


class Interrupted(BaseException):
    """The first signal, raised in the main thread. No ``Exception``: nothing that handles errors may swallow it.

    Args:
        signum: the signal's number; the exit code of the command line is 128 more.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class InterruptGuard:
    """While entered, the first signal raises `Interrupted`, at once or at the end of `shielded`.

    The second one goes to the handlers from before, so a run that hangs in its clean-up can still be ended; or it is
    left to `end_on_signals`, where that watches. Only the main thread may install handlers; elsewhere, and where it
    is not entered, the guard does nothing. A signal that is ignored (``nohup``, a background job of ``sh``) stays
    ignored.

    Args:
        in_time: where `end_on_signals` watches, it ends the process if that has not ended by itself 2 seconds
            after the signal, or after the end of `shielded`. For work that loses nothing then.
    """

    def __init__(self, *, in_time: bool = False) -> None:
        self._previous: dict[signal.Signals, Any] = {}
        self._in_time = in_time
        self._shields = self._at_work = 0
        self._waiting: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            if self._in_time:
                _watch.guard = self
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    @property
    def is_at_work(self) -> bool:
        """Whether the process may not be ended in time now."""
        return self._at_work > 0

    def __exit__(self, *_: object) -> None:
        self._restore()

    @contextmanager
    def shielded(self, *, hurried: bool = False) -> Iterator[None]:
        """A signal that arrives in this block is raised at its end, and the process is not ended in time before.

        With ``hurried`` it is, such as where a pipe may never be read.
        """
        self._shields += 1
        self._at_work += not hurried
        try:
            yield
        finally:
            self._at_work -= not hurried  # first: after the other a signal may be raised at once
            self._shields -= 1
        if self._shields == 0 and self._waiting is not None:
            raise Interrupted(self._waiting)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if _watch.started:
            # Never back to the system's own handlers: Python complains of a signal that comes in between.
            for other in self._previous:
                signal.signal(other, _do_nothing)
            self._previous = {}
        else:
            self._restore()
        if self._shields:
            self._waiting = number
        else:
            raise Interrupted(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class _Watch:
    """What the thread that watches signals knows of the program."""

    started = False
    guard: InterruptGuard | None = None
    """Of work that ends in time; it stays here when the guard is left, for what may hang after it."""


_watch: Final = _Watch()


# What is still to be done before a second signal ends the process.
_final_actions: Final[dict[object, Callable[[int], object]]] = {}
_FINAL_SECONDS: Final = 1.0


@contextmanager
def before_forced_end(act: Callable[[int], object]) -> Iterator[None]:
    """Within, a signal that ends a process which hangs, or a second one, runs ``act`` before.

    Of several the inner one comes first; all of them have one second.

    Args:
        act: takes the number of the signal that the exit code names.
    """
    token = object()
    _final_actions[token] = act
    try:
        yield
    finally:
        del _final_actions[token]


def _run_final_actions(number: int) -> None:
    def act() -> None:
        for each in reversed(tuple(_final_actions.values())):
            each(number)

    if _final_actions:
        with suppress(RuntimeError):  # Python starts no thread any more
            thread = threading.Thread(target=act, name="batchcap-last-acts", daemon=True)
            thread.start()
            thread.join(_FINAL_SECONDS)


def end_on_signals() -> None:
    """From now on signals end the process, even one that hangs: for a program.

    A second signal, half a second or more after the first, ends it at once; the first one ends it in time where the
    `InterruptGuard` says so. Handlers in Python wait until a call into a library or the system returns, which may be
    never. So the signal's number goes, as it comes, through a pipe (`signal.set_wakeup_fd`) to a thread. Where the main
    thread waits for a disk that does not answer, Linux keeps the signal for it alone; the thread fetches it. On
    Windows nothing is changed.
    """
    if os.name != "posix":
        return
    out, into = os.pipe()
    os.set_blocking(into, False)
    signal.set_wakeup_fd(into, warn_on_full_buffer=False)
    threading.Thread(target=_end_when_due, args=(out,), name="batchcap-signals", daemon=True).start()
    _watch.started = True
    atexit.register(_ignore_at_exit)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _first_ctrl_c)


def _end_when_due(out: int) -> None:
    first: int | None = None
    came = busy = 0.0
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    pending: set[int] = set()
    while True:
        numbers = [*_told(out, _FETCH_SECONDS if first is None else _LOOK_SECONDS)]
        before, pending = pending, signal.sigpending() & {*_SIGNALS}
        numbers += _fetched(before & pending)  # those that wait for more than a moment
        now = time.monotonic()
        for number in numbers:
            if number not in _SIGNALS or signal.getsignal(number) is signal.SIG_IGN:
                continue
            if first is None:
                first, came, busy = number, now, now
            elif now - came >= _ONE_SECONDS:
                _end(number)
        if first is None or _watch.guard is None:
            continue
        if _watch.guard.is_at_work:
            busy = now
        elif now - busy >= _ENDING_SECONDS:
            _end(first)


def _told(out: int, seconds: float) -> bytes:
    """The numbers of signals whose handler has run in some thread; waits for one, but not longer than ``seconds``."""
    return os.read(out, 64) if select.select([out], [], [], seconds)[0] else b""


def _fetched(numbers: set[int]) -> Iterator[int]:
    """Take signals that no thread takes: the main thread was chosen, and waits in a call that nothing interrupts.

    Their handlers run when that call returns.
    """
    for number in numbers:
        if hasattr(signal, "sigtimedwait") and signal.sigtimedwait([number], 0) is not None:
            _thread.interrupt_main(signal.Signals(number))
            yield number


def _end(number: int) -> None:
    _run_final_actions(number)
    with suppress(OSError, ValueError):
        if sys.stderr is not None and sys.stderr.isatty():  # a progress bar that was not closed has hidden it
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
    os._exit(128 + number)


def _first_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Python's usual handler, once: a second KeyboardInterrupt would break into the handling of the first."""
    signal.signal(signal.SIGINT, _do_nothing)
    signal.default_int_handler(number, frame)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """The process is ending; if it hangs, the thread ends it at the next signal."""


def _ignore_at_exit() -> None:
    """Registered first, so it runs last, when all threads have ended: Python removes its handlers after it."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _do_nothing:
            sys.unraisablehook = lambda _: None  # it complains of a signal that comes in between
            signal.signal(number, signal.SIG_IGN)
