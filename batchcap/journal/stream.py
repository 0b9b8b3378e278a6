"""The output of a run that writes to standard output: what a journal does, as far as a stream can do it."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from batchcap.errors import OutputError
from batchcap.journal.columns import digest
from batchcap.journal.format_jsonl import Jsonl
from batchcap.records import ImageRef, Record


class StreamJournal:
    """JSON lines on standard output or any binary stream: no resume, no lock; one write and flush a batch."""

    def __init__(self, stream: BinaryIO, root: str | None = None) -> None:
        """``stream`` stays open; ``root`` as of `Journal.open`."""
        self.root = root
        self.skipped = self.skipped_failures = 0
        self.skipped_kinds: Counter[str] = Counter()
        self.skipped_examples: list[tuple[ImageRef, str]] = []
        self.cut = 0
        self.cut_text = ""
        self.live: Path | None = None
        self.unfinished: Path | None = None
        self.relocated = False
        self.replaces = False
        self.fresh = True
        self.repeated = 0
        self.done = 0
        self._stream = stream
        self._codec = Jsonl()
        self._seen: set[bytes] = set()

    def pending(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """Every image once, in order."""
        for ref in refs:
            name = digest(ref.key)
            if name in self._seen:
                self.repeated += 1
            else:
                self._seen.add(name)
                yield ref

    def append(self, records: Sequence[Record]) -> None:
        """Write whole lines.

        Raises:
            BrokenPipeError: the reader has closed the pipe.
            OutputError: the stream cannot be written for any other reason.
        """
        if not records:
            return
        try:
            self._write(self._codec.encode(records))
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            why = error.strerror or type(error).__name__
            fix = "Name a file with -o: then a run that stopped can go on."
            raise OutputError(f"Standard output cannot be written: {why}.", fix) from error
        self.done += sum(record.error is None or record.error.stage == "decode" for record in records)

    def _write(self, lines: bytes) -> None:
        left = memoryview(lines)
        while left:  # without a buffer (PYTHONUNBUFFERED) a pipe may take less than all
            taken = self._stream.write(left)
            if taken is None:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            left = left[taken:]

    def failed_alike(self, record: Record) -> bool:
        """False: a stream knows of no earlier run."""
        del record
        return False

    def is_known(self, ref: ImageRef) -> bool:
        """False: a stream knows of no earlier run."""
        del ref
        return False

    def is_retry(self, ref: ImageRef) -> bool:
        """False: a stream knows of no earlier run."""
        del ref
        return False

    def recall(self, ref: ImageRef, sha256: str) -> Record | None:
        """None: a stream knows of no earlier run."""
        del ref, sha256
        return None

    def commit(self, complete: bool = True) -> None:
        """Nothing is left to do: every batch was flushed."""
        del complete

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
