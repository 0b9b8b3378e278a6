"""Files that have arrived and may still be written: each waits until it has not changed for a while.

A copy, a download or a scan takes seconds to minutes, and nothing tells its end: a program may keep a file open, close
it several times, or write through a network. What can be seen is that size and time no longer change.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

MOST_FILES: Final = 10_000
"""Files that wait at the same time; of more it is only noted that there are more. About 400 bytes each."""

State: TypeAlias = tuple[int, ...] | None
"""What changes when a file is written or replaced; None where there is no file."""


def state_of(file: str) -> State:
    """Size, times and inode of a file, links followed. Never raises for the file's sake."""
    try:
        status = os.stat(file)  # noqa: PTH116 - the name is the operating system's own spelling
    except (OSError, ValueError):
        return None
    # The time of a copy is often set back to that of the original when it is complete; st_ctime_ns shows that, too.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


class _Waiting(NamedTuple):
    state: State
    since: float


class Arrivals:
    """Files that wait until they are settled. Knows no time of its own: every call is told.

    Args:
        settle: seconds without any change.
        look: what a file is like now.
        most: files that may wait.
    """

    def __init__(self, settle: float, look: Callable[[str], State] = state_of, most: int = MOST_FILES) -> None:
        self.overflowed = False
        """More files have arrived than may wait: only a look through the folders finds the others. Set it back then."""
        self._settle = settle
        self._look = look
        self._most = most
        # The one that changed last stands last, so the first ones are those that may be settled.
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, files: Iterable[str], now: float) -> None:
        """Something has happened to these files: they wait from now on, or again if they have changed.

        Args:
            files: absolute names. One that is not there (any more) does not wait.
            now: seconds, monotonic.
        """
        for file in files:
            state = self._look(file)
            before = self._waiting.get(file)
            if before is not None and before.state == state:
                continue
            self._waiting.pop(file, None)
            if state is None:
                continue
            if len(self._waiting) < self._most:
                self._waiting[file] = _Waiting(state, now)
            else:
                self.overflowed = True

    def settled(self, now: float) -> Iterator[str]:
        """The files that have not changed for long enough. They no longer wait, nor do those that have vanished.

        Args:
            now: seconds, monotonic.
        """
        while self._waiting:
            file, waiting = next(iter(self._waiting.items()))
            if now - waiting.since < self._settle:
                return
            del self._waiting[file]
            state = self._look(file)
            if state == waiting.state:
                yield file
            elif state is not None:
                self._waiting[file] = _Waiting(state, now)

    def seconds_left(self, now: float) -> float | None:
        """How long until the next file may be settled; None where none waits."""
        if not self._waiting:
            return None
        return max(0.0, next(iter(self._waiting.values())).since + self._settle - now)
