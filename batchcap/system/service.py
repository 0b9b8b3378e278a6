"""What a service tells systemd: that it is ready, how far it is, that it is still at work, that it ends.

Protocol: sd_notify(3). Each message is one datagram to the socket that the environment names. No library is needed, and
none is taken: the protocol is meant to be written by hand.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Self

_MOST_SECONDS: Final = 1.0
"""Between two messages; also how long one may take to be delivered."""
_MICROSECONDS: Final = 1_000_000


class Service:
    """The link to systemd. Where there is none (``NOTIFY_SOCKET`` is not set), every method does nothing.

    There is no thread behind it: `alive` is called where the work goes on, so that a run that hangs is found out.

    Args:
        environment: where systemd says how to be reached.
        clock: seconds, monotonic.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._socket = _connected(environment.get("NOTIFY_SOCKET", ""))
        watchdog = _watchdog_seconds(environment)
        self._watched = watchdog is not None
        # systemd asks for a message in half of the time. One a second leaves a batch nearly all of the time.
        self._pause = _MOST_SECONDS if watchdog is None else min(_MOST_SECONDS, watchdog / 2)
        self._spoke = -self._pause
        self._is_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The process ends soon: say so."""
        self._send("STOPPING=1")
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str) -> None:
        """All is checked and the work begins; what comes after the first call is only a new status."""
        first, self._is_ready = not self._is_ready, True
        self._send(*(["READY=1"] if first else []), f"STATUS={_line(status)}")

    def alive(self, status: Callable[[], str] | None = None) -> None:
        """The work has gone on; may be called as often as it does. Before `ready` nothing is sent.

        Args:
            status: makes the status in words; called about once a second. None leaves it as it is.
        """
        if not self._is_ready or self._socket is None or (now := self._clock()) - self._spoke < self._pause:
            return
        self._spoke = now
        lines = ["WATCHDOG=1"] if self._watched else []
        if status is not None:
            lines.append(f"STATUS={_line(status())}")
        self._send(*lines)

    def say(self, status: str) -> None:
        """A new status in words."""
        self._send(f"STATUS={_line(status)}")

    def _send(self, *lines: str) -> None:
        if self._socket is not None and lines:
            with suppress(OSError):  # a run does not fail because nobody listens
                self._socket.send("\n".join(lines).encode("utf-8", "replace"))


def _connected(address: str) -> socket.socket | None:
    """A socket to systemd; None where the environment names none, or none of this machine."""
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0))
    sock.settimeout(_MOST_SECONDS)
    try:
        sock.connect(f"\0{address[1:]}" if address.startswith("@") else address)
    except (OSError, ValueError):
        sock.close()
        return None
    return sock


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """After so many seconds without a message systemd ends the service; None: never (sd_watchdog_enabled(3))."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    with suppress(ValueError):
        seconds = int(environment.get("WATCHDOG_USEC", "")) / _MICROSECONDS
        return seconds if seconds > 0 else None
    return None


def _line(text: str) -> str:
    """One line: a line end would begin another message."""
    return " ".join(text.split())
