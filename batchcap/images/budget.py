"""Memory that threads share: each waits until what it needs fits beside what the others hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ClosedError(Exception):
    """The consumer closed the loader while a thread waited for memory. Its result is not read."""


class Budget:
    """Bytes that threads may hold together. One thread alone may hold more, so that nothing waits for ever."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._used == 0 or self._used + size <= self._limit)
            if self._closed:
                raise ClosedError
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
