"""One run at a time has the output: the lock is on the file itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import BinaryIO

import pytest
from journals import FIRST, captioned, names, posix, python, read, ref, write

from batchcap.errors import OutputError, OutputLockedError
from batchcap.journal.journal import Journal
from batchcap.records import ImageRef
from batchcap.system import locks

# --- One run at a time


def test_a_second_process_is_refused_at_once_and_served_afterwards(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = """
        with t.Journal.open(t.Path(sys.argv[1]), "jsonl", t.FIRST) as journal:
            print("open", flush=True)
            sys.stdin.readline()
            journal.append([t.captioned(t.ref("theirs"))])
        """
    process = python(code, out)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    for overwrite in (False, True):
        with pytest.raises(OutputLockedError, match="Another run is writing") as caught:
            Journal.open(out, "jsonl", FIRST, overwrite=overwrite)
        assert caught.value.exit_code == 75
    process.communicate("go on\n")
    assert process.returncode == 0
    write(out, [captioned(ref("ours"))])
    assert [record.path for record in read(out)] == ["theirs", "ours"]
    assert names(tmp_path) == ["out"]


def test_runs_that_fight_for_the_output_never_hold_it_together(tmp_path: Path) -> None:
    """Each holder makes a file that must not be there: a lock on a removed lock file would let two in."""
    out, token = tmp_path / "out", tmp_path / "token"
    held: list[int] = []
    broken: list[BaseException] = []

    def fight() -> None:
        for _ in range(150):
            try:
                with Journal.open(out, "jsonl", FIRST) as journal:
                    token.touch(exist_ok=False)
                    held.append(journal.done)
                    journal.append([captioned(ref(f"{journal.done}"))])
                    token.unlink()
            except OutputLockedError:
                continue
            except BaseException as error:
                broken.append(error)
                raise

    threads = [threading.Thread(target=fight) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    assert held == list(range(len(held)))  # each saw what all before it had written
    assert [record.path for record in read(out)] == [str(number) for number in held]


@posix
def test_a_lock_on_a_file_that_was_removed_or_replaced_meanwhile_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our opening and our locking, the run before us may end and remove its empty file."""
    out = tmp_path / "out"
    replacements = iter([True, True, False])
    lock = locks._lock

    def late(file: BinaryIO, path: Path) -> None:
        if next(replacements):
            path.unlink()
        lock(file, path)

    monkeypatch.setattr(locks, "_lock", late)
    with Journal.open(out, "jsonl", FIRST) as journal:
        journal.append([captioned(ref("a"))])
    assert [record.path for record in read(out)] == ["a"]


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", none)
    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OutputError, match="cannot lock files") as caught:
        Journal.open(tmp_path / "out", "jsonl", FIRST)
    assert caught.value.exit_code == 1
    assert "local disk" in caught.value.fix


def test_the_lock_is_given_back_by_another_thread(tmp_path: Path) -> None:
    out = tmp_path / "out"
    journal = Journal.open(out, "jsonl", FIRST)
    thread = threading.Thread(target=journal.close)
    thread.start()
    thread.join()
    Journal.open(out, "jsonl", FIRST).close()


def test_pending_and_append_work_from_two_threads(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref(str(number))) for number in range(500)])
    refs = [ref(str(number)) for number in range(2000)]
    with Journal.open(out, "jsonl", FIRST) as journal:
        passed: list[ImageRef] = []
        thread = threading.Thread(target=lambda: passed.extend(journal.pending(refs)))
        thread.start()
        for start in range(500, 2000, 50):
            journal.append([captioned(image) for image in refs[start : start + 50]])
        thread.join()
        assert passed == refs[500:]
    assert len(read(out)) == 2000
