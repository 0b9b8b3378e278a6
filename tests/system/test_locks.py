"""Locks on files: held by one, seen without being taken, and no hindrance to readers."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from batchcap.errors import OutputLockedError
from batchcap.system import locks

fcntl = pytest.importorskip("fcntl")


@pytest.fixture(params=["of the open file", "flock"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file, on a system with locks of open file descriptions and on one without."""
    if request.param == "flock":

        def unknown(*_: Any) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(fcntl, "fcntl", unknown)
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"a line\n")
    return path


def test_a_lock_is_held_by_one_and_seen_by_all(file: Path) -> None:
    assert locks.is_locked(file) is False
    held, is_new = locks.open_locked(file)
    assert not is_new
    assert locks.is_locked(file) is True
    with pytest.raises(OutputLockedError):
        locks.open_locked(file)
    assert file.read_bytes() == b"a line\n"
    held.close()
    assert locks.is_locked(file) is False
    locks.open_locked(file)[0].close()


def test_another_open_file_of_the_process_that_is_closed_takes_no_lock_away(file: Path) -> None:
    """As it does with the locks of POSIX."""
    with locks.open_locked(file)[0]:
        file.open("rb").close()
        with pytest.raises(OutputLockedError):
            locks.open_locked(file)


def test_a_lock_ends_with_the_process(file: Path) -> None:
    child = os.fork()
    if child == 0:
        locks.open_locked(file)
        os._exit(0)
    os.waitpid(child, 0)
    assert locks.is_locked(file) is False


def test_to_ask_stops_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking by flock holds a shared lock for a moment: who wants the lock waits that long."""
    with file.open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        monkeypatch.setattr(locks.time, "sleep", lambda _: asking.close())
        locks.open_locked(file)[0].close()


@pytest.mark.skipif(sys.platform != "linux", reason="locks of open file descriptions")
def test_the_bytes_of_the_output_are_not_locked(tmp_path: Path) -> None:
    """On SMB locked bytes cannot be read by anyone else."""
    path = tmp_path / "out.jsonl"
    with locks.open_locked(path)[0], path.open("r+b") as other:
        fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 2**60)
        with pytest.raises(BlockingIOError):
            fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
