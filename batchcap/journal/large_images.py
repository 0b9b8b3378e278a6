"""Large images that are being decoded, noted in a file beside the output: one that killed a run is not tried for ever.

A hidden file in the output's folder is there only while a large image is decoded. A run that finds it knows which
images an earlier run did not survive. It tries them once more: a power cut or a kill by hand is no fault of an image.
Those that end a second run are recorded as ``killed``, and ``--retry-errors`` tries them again. A user who ends a run,
by two signals too, ends the notes with it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from batchcap.records import Failure, ImageRef, Key, Record
from batchcap.system import interrupts
from batchcap.system.output_files import own_file

LARGE: Final = 256 * 2**20
"""Bytes of memory from which on an image is noted before it is decoded."""
_MOST_TRIES: Final = 2
_LOCK_SECONDS: Final = 0.2


class _Note(msgspec.Struct, frozen=True):
    """One line of the file: an image is begun, or with ``ended`` it is over."""

    key: str
    member: str | None
    bytes: int
    mtime_us: int
    cost: int = 0
    ended: bool = False
    tries: int = 1
    """How many runs have begun it, this one included."""

    def is_of(self, ref: ImageRef) -> bool:
        """Whether the image has not changed since."""
        return (self.bytes, self.mtime_us) == (ref.size, ref.mtime_us)


class LargeImages:
    """The large images of one run; `note` may be called by several threads at once."""

    def __init__(self, output: Path | None, *, retry: bool = False) -> None:
        """Read which images an earlier run with this output did not survive.

        Args:
            output: the output, which this run holds alone; None: a stream, where nothing is noted.
            retry: try them again.
        """
        self._file = None if output is None else own_file(output, "decoding")
        self._lock = threading.Lock()
        self._under_way: dict[Key, _Note] = {}
        self._fatal = self._read()
        if retry:
            self._fatal.clear()
        self._tidy()

    def _read(self) -> dict[Key, _Note]:
        found: dict[Key, _Note] = {}
        lines: list[bytes] = []
        if self._file is not None:
            with suppress(OSError):
                lines = self._file.read_bytes().splitlines()
        for line in lines:
            with suppress(msgspec.MsgspecError):  # a torn last line: what it was to say had not begun
                note = msgspec.json.decode(line, type=_Note)
                found.pop((note.key, note.member), None)
                if not note.ended:
                    found[note.key, note.member] = note
        return found

    def refuse(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The images, with a failure for those that two earlier runs did not survive, if they have not changed."""
        for ref in refs:
            note = self._fatal.get(ref.key)
            if note is not None and note.is_of(ref) and note.tries >= _MOST_TRIES and ref.failure is None:
                yield replace(ref, failure=_killed(note))
            else:
                yield ref

    def note(self, ref: ImageRef, cost: int) -> AbstractContextManager[None]:
        """Around the decoding of an image that takes ``cost`` bytes."""
        return nullcontext() if cost < LARGE or self._file is None else self._noted(ref, cost)

    @contextmanager
    def _noted(self, ref: ImageRef, cost: int) -> Iterator[None]:
        before = self._fatal.get(ref.key)
        tries = before.tries + 1 if before is not None and before.is_of(ref) else 1
        note = _Note(*ref.key, ref.size, ref.mtime_us, cost, tries=tries)
        with self._lock:
            self._under_way[ref.key] = note
            self._write(note)
        try:
            with interrupts.before_forced_end(lambda _: self._forget_all()):
                yield
        finally:
            with self._lock:
                self._under_way.pop(ref.key, None)
                self._write(msgspec.structs.replace(note, ended=True))
                self._tidy()

    def _forget_all(self) -> None:
        """The user ends the process: no image killed it. The lock may be held for ever by then."""
        is_locked = self._lock.acquire(timeout=_LOCK_SECONDS)
        for note in tuple(self._under_way.values()):
            self._write(msgspec.structs.replace(note, ended=True))
            self._fatal.pop((note.key, note.member), None)
        self._under_way.clear()
        self._tidy()
        if is_locked:
            self._lock.release()

    def settle(self, records: Sequence[Record]) -> None:
        """These records are written: their images need no note any more."""
        if self._fatal:
            with self._lock:
                for record in records:
                    self._fatal.pop(record.key, None)
                self._tidy()

    def finish(self) -> None:
        """The run is over: an image that it did not see is no longer among its inputs."""
        with self._lock:
            self._fatal.clear()
            self._tidy()

    def _write(self, note: _Note) -> None:
        """Append a line. Where the folder takes no new file, the run goes on without."""
        if self._file is not None:
            with suppress(OSError), self._file.open("ab", buffering=0) as file:
                file.write(msgspec.json.encode(note) + b"\n")
                os.fsync(file.fileno())

    def _tidy(self) -> None:
        """Remove the file when no note in it is needed."""
        if self._file is not None and not self._under_way and not self._fatal:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


def _killed(note: _Note) -> Failure:
    memory = f"{note.cost / 2**30:.1f} GiB"
    what = f"{note.tries} runs were killed while they decoded this image, which takes {memory} of memory"
    return Failure("decode", "killed", f"{what}; --retry-errors tries it again")
