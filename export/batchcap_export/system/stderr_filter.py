"""Keeps TensorFlow's log off the terminal: a small process reads standard error and drops its lines.

TensorFlow writes to the file descriptor from C++, before any setting of it is read, and again when a GPU is first used:
no level of logging holds all of it back. A separate process also passes on what a library writes just before it aborts.

Only the standard library is imported here: the file is also that process's program.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, TextIO

_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    # Information and warnings of both forms of its log; errors and what is fatal pass, except:
    rb"|[IW]\d{4} \d\d:\d\d:"
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] "
    # Three libraries register the same factories; a machine may have no GPU.
    rb"|.*Unable to register cu[A-Z]+ factory"
    rb"|.*(CUDA_ERROR_NO_DEVICE|failed call to cuInit)"
    # Second lines of such messages.
    rb"|To enable the following instructions: "
    rb"|Skipping registering GPU devices"
)
_WAIT_SECONDS = 5.0


@contextmanager
def without_noise() -> Iterator[None]:
    """While entered, file descriptor 2 goes through the filter; what Python writes to `sys.stderr` does not."""
    if not sys.executable or not _is_descriptor_2(sys.stderr):
        yield
        return
    # A session of its own: Ctrl-C must not end it before the last lines have come through.
    command = [sys.executable, "-I", "-S", __file__]
    reader = subprocess.Popen(  # noqa: S603 - this very file
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    assert reader.stdin is not None
    python = sys.stderr
    python.flush()
    real = os.dup(2)
    sys.stderr = os.fdopen(os.dup(2), "w", encoding=python.encoding, errors=python.errors, buffering=1)
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = python
        os.dup2(real, 2)
        os.close(real)
        # A child process that still runs may hold the other end.
        with suppress(subprocess.TimeoutExpired):
            reader.wait(_WAIT_SECONDS)


def _is_descriptor_2(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError, AttributeError):  # closed, or in memory
        return False


def passes(line: bytes) -> bool:
    """Whether a line is shown."""
    return _NOISE.match(line) is None


def copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copy the lines that pass, each as soon as it is there."""
    for line in source:
        if passes(line):
            target.write(line)
            target.flush()


if __name__ == "__main__":
    with suppress(OSError):
        copy(sys.stdin.buffer, sys.stderr.buffer)
