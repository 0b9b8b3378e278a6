"""A time limit for downloads that other libraries make: an offline machine gets its error in seconds."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 10.0


@contextmanager
def download_timeout(seconds: float = SECONDS) -> Iterator[None]:
    """While entered, no look-up of a name, no connection and no silence of a server lasts longer than ``seconds``.

    It is for the whole process: nothing else may use the network meanwhile. Of each family of addresses only the first
    is tried: where a firewall drops packets, each of a dozen would take ``seconds``.
    """
    look_up, timeout = socket.getaddrinfo, socket.getdefaulttimeout()

    def bounded(*given: Any, **named: Any) -> list[Any]:
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answer.put(look_up(*given, **named))
            except OSError as error:
                answer.put(error)

        # A look-up cannot be interrupted: its thread is left running, and a daemon thread delays no exit.
        threading.Thread(target=ask, daemon=True).start()
        try:
            found = answer.get(timeout=seconds)
        except queue.Empty:
            raise socket.gaierror(socket.EAI_AGAIN, f"no answer from a name server in {seconds:g} s") from None
        if isinstance(found, OSError):
            raise found
        return list({entry[0]: entry for entry in reversed(found)}.values())

    socket.getaddrinfo = bounded
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.getaddrinfo = look_up
        socket.setdefaulttimeout(timeout)
