"""The output of a run that writes to standard output."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from journals import captioned, failed, posix, ref

from batchcap.errors import OutputError
from batchcap.journal.formats import make_codec
from batchcap.journal.stream import StreamJournal

# --- Standard output


class _Pipe(io.BytesIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_a_stream_gets_every_image_once_and_a_flush_a_batch() -> None:
    pipe = _Pipe()
    refs = [ref("a"), ref("b"), ref("a")]
    with StreamJournal(pipe) as journal:
        assert [image.path for image in journal.pending(refs)] == ["a", "b"]
        assert (journal.done, journal.skipped, journal.repeated) == (0, 0, 1)
        journal.append([captioned(refs[0])])
        journal.append([])
        journal.append([failed(refs[1])])
        journal.commit()
    assert pipe.flushes == 2
    assert pipe.getvalue() == make_codec("jsonl").encode([captioned(refs[0]), failed(refs[1])])


@posix
def test_a_stream_that_nobody_reads_says_so() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "wb")
    with pytest.raises(BrokenPipeError):
        StreamJournal(stream).append([captioned(ref("a"))])
    with pytest.raises(BrokenPipeError):
        stream.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a stream that is always full")
def test_a_stream_that_is_full_is_an_error_of_the_output() -> None:
    why = "Standard output cannot be written: No space left"
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OutputError, match=why) as caught:
        StreamJournal(full).append([captioned(ref("a"))])
    assert "-o" in caught.value.fix


class _Small(io.BytesIO):
    """A pipe without a buffer: it takes a part, or nothing."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        return super().write(data[:7]) or None


def test_a_stream_without_a_buffer_gets_all() -> None:
    """As in a container with PYTHONUNBUFFERED, where a signal ends a write early."""
    stream = _Small()
    journal = StreamJournal(stream)
    records = [captioned(ref(name)) for name in ("a", "b")]
    journal.append(records)
    assert stream.getvalue() == make_codec("jsonl").encode(records)


def test_a_stream_that_does_not_wait_is_an_error() -> None:
    stream = _Small()
    stream.write = lambda _: None  # type: ignore[method-assign,assignment]
    with pytest.raises(OutputError, match="Standard output cannot be written: Resource temporarily unavailable"):
        StreamJournal(stream).append([captioned(ref("a"))])
