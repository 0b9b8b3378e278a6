"""Writing a journal: what was committed survives everything, one run at a time, and an error names its cause."""

from __future__ import annotations

import io
import os
import signal
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from journals import (
    FIRST,
    FORMATS,
    KILLED,
    both,
    captioned,
    lengthen,
    names,
    posix,
    python,
    read,
    ref,
    rename,
    replace,
    shorten,
    write,
)

from batchcap.errors import OutputError, OutputLockedError
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.options.output import Format

# --- Places that cannot be written


def test_a_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder") as caught:
        Journal.open(tmp_path / "missing" / "out.jsonl", "jsonl", FIRST)
    assert "mkdir -p" in caught.value.fix
    assert names(tmp_path) == []


def test_a_folder_as_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        Journal.open(tmp_path, "jsonl", FIRST)


def test_a_file_as_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        Journal.open(tmp_path / "file" / "out.jsonl", "jsonl", FIRST)


@posix
def test_a_device_or_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="not a regular file") as caught:
        Journal.open(tmp_path / "pipe", "jsonl", FIRST)
    assert "-o -" in caught.value.fix


def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be opened") as caught:
        Journal.open(tmp_path / ("x" * 256), "jsonl", FIRST)
    assert "shorter" in caught.value.fix


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied") as caught:
            Journal.open(tmp_path / "out.jsonl", "jsonl", FIRST)
    finally:
        tmp_path.chmod(0o700)
    assert "right to write" in caught.value.fix


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system in which nobody may make files")
def test_a_file_system_that_takes_no_files_is_an_error_even_for_root() -> None:
    with pytest.raises(OutputError, match="cannot be opened"):
        Journal.open(Path("/proc/self/out.jsonl"), "jsonl", FIRST)


# --- Append is the commit point


@posix
@both
def test_a_write_that_fails_half_way_leaves_what_was_committed(tmp_path: Path, format: Format) -> None:
    """The system's own limit on a file's size makes a write stop in the middle, as a full disk does."""
    out = tmp_path / "out"
    code = """
        import resource, signal
        from batchcap.errors import BatchcapError, OutputError
        out, format = t.Path(sys.argv[1]), sys.argv[2]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        batch = lambda start: [t.captioned(t.ref(f"{number}.jpg")) for number in range(start, start + 20)]
        with t.Journal.open(out, format, t.FIRST) as journal:
            journal.append(batch(0))
            size = out.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, resource.RLIM_INFINITY))
            try:
                journal.append(batch(20))
            except OutputError as error:
                print(error)
            assert out.stat().st_size == size
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            journal.append(batch(40))
        journal.close()
        """
    process = python(code, out, format)
    answer, _ = process.communicate()
    assert process.returncode == 0
    assert "out cannot be written: File too large." in answer
    assert "size limit" in answer
    assert [record.path for record in read(out, format)] == [f"{n}.jpg" for n in [*range(20), *range(40, 60)]]


class _Failing(io.RawIOBase):
    """A file whose next write takes some bytes and then fails, as a full disk does."""

    def __init__(self, file: BinaryIO, takes: int, error: BaseException) -> None:
        self.file, self.takes, self.error = file, takes, error

    def fileno(self) -> int:
        return self.file.fileno()

    def write(self, data: Any) -> int:
        if not self.takes:
            raise self.error
        written = self.file.write(data[: self.takes])
        self.takes = 0
        return written

    def close(self) -> None:
        self.file.close()


@pytest.mark.parametrize(
    ("error", "raised", "text"),
    [
        (OSError(28, "No space left on device"), OutputError, "Free some space"),
        (OSError(5, "Input/output error"), OutputError, "Input/output error"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_any_failure_cuts_back_to_the_last_commit(
    tmp_path: Path, error: BaseException, raised: type[BaseException], text: str | None
) -> None:
    out = tmp_path / "out"
    with Journal.open(out, "jsonl", FIRST) as journal:
        journal.append([captioned(ref("a"))])
        real = journal._file._file
        journal._file._file = cast("BinaryIO", _Failing(real, 50, error))
        with pytest.raises(raised, match=text):
            journal.append([captioned(ref("b"))])
        assert [record.path for record in read(out)] == ["a"]
        journal._file._file = real
        journal.append([captioned(ref("c"))])
    assert [record.path for record in read(out)] == ["a", "c"]


def test_what_a_full_disk_keeps_is_said_with_overwrite_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fixes = []
    for overwrite in (False, True):
        with Journal.open(out, "jsonl", FIRST, overwrite=overwrite) as journal:
            journal._file._file = cast(
                "BinaryIO", _Failing(journal._file._file, 50, OSError(28, "No space left on device"))
            )
            with pytest.raises(OutputError) as caught:
                journal.append([captioned(ref("a"))])
            fixes.append(caught.value.fix)
    assert "every record written so far is kept" in fixes[0]
    assert fixes[1] == "Free some space and run again: the old file is untouched, and the new one goes on."


def test_a_batch_that_could_not_be_cut_at_once_is_cut_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def broken(descriptor: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    with Journal.open(out, "jsonl", FIRST) as journal:
        journal.append([captioned(ref("a"))])
        real = journal._file._file
        journal._file._file = cast("BinaryIO", _Failing(real, 50, OSError(5, "Input/output error")))
        with monkeypatch.context() as patch, pytest.raises(OutputError, match="Input/output"):
            patch.setattr(os, "ftruncate", broken)
            journal.append([captioned(ref("b"))])
        assert not out.read_bytes().endswith(b"\n")
        journal._file._file = real
        journal.append([captioned(ref("c"))])
    assert [record.path for record in read(out)] == ["a", "c"]


def test_closing_after_a_failure_raises_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    out = tmp_path / "out"
    journal = Journal.open(out, "jsonl", FIRST)
    journal._file._file.close()
    with pytest.raises(ValueError, match="closed"):
        journal.append([captioned(ref("a"))])
    journal.close()
    journal.close()
    write(out, [captioned(ref("a"))])


MEDDLING = [
    (Path.unlink, "was removed or renamed during the run"),
    (rename, "was removed or renamed during the run"),
    (replace, "was replaced by another file during the run"),
    (shorten, "was changed by another program during the run: it has 30 bytes where"),
    (lengthen, "was changed by another program during the run: it has"),
]


@posix
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(("meddle", "why"), MEDDLING)
@both
def test_what_another_program_does_to_the_output_is_noticed_and_left(
    tmp_path: Path, format: Format, overwrite: bool, meddle: Callable[[Path], None], why: str
) -> None:
    out = tmp_path / "out"
    live = tmp_path / "out.partial" if overwrite else out
    write(out, [captioned(ref("old"))], format)
    for at_the_end in (False, True):
        journal = Journal.open(out, format, FIRST, overwrite=overwrite)
        with journal:
            journal.append([captioned(ref(f"a{at_the_end}"))])
            meddle(live)
            left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
            with pytest.raises(OutputError, match=why) as caught:
                journal.commit() if at_the_end else journal.append([captioned(ref("b"))])
            assert "Run again" in caught.value.fix
            assert caught.value.exit_code == 1
        if overwrite and at_the_end:
            del left["out"]  # only made for its lock
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == left
        for path in tmp_path.iterdir():
            path.unlink()


def test_a_second_run_gets_in_only_where_the_first_has_lost_its_file(tmp_path: Path) -> None:
    """There is no lock file that could be removed; another file under the name is another output."""
    out = tmp_path / "out"
    with Journal.open(out, "jsonl", FIRST) as first:
        first.append([captioned(ref("a"))])
        assert names(tmp_path) == ["out"]
        with pytest.raises(OutputLockedError):
            Journal.open(out, "jsonl", FIRST)
        if os.name != "nt":
            replace(out)
            with Journal.open(out, "jsonl", FIRST) as second:
                second.append([captioned(ref("b"))])
                with pytest.raises(OutputError, match="replaced"):
                    first.append([captioned(ref("c"))])
                second.commit()
            assert [record.path for record in read(out)] == ["a", "b"]


def test_a_run_that_wrote_nothing_leaves_no_file(tmp_path: Path) -> None:
    for name in FORMATS:
        Journal.open(tmp_path / "out", name, FIRST).close()
        Journal.open(tmp_path / "out", name, FIRST, overwrite=True).close()
        assert names(tmp_path) == []


def test_a_run_that_finished_without_images_leaves_an_empty_output(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", [], "csv")
    assert (tmp_path / "out.csv").read_bytes() == make_codec("csv").header


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "real" / "out.jsonl")
    write(link, [captioned(ref("a"))])
    with Journal.open(tmp_path / "real" / "out.jsonl", "jsonl", FIRST), pytest.raises(OutputLockedError):
        Journal.open(link, "jsonl", FIRST)
    write(link, [captioned(ref("b"))], overwrite=True)
    assert link.is_symlink()
    assert [record.path for record in read(tmp_path / "real" / "out.jsonl")] == ["b"]


@posix
@both
def test_what_append_returned_from_survives_kill_9_and_the_lock_does_not(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    process = python(KILLED, out, format)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    with pytest.raises(OutputLockedError):
        Journal.open(out, format, FIRST)
    process.send_signal(signal.SIGKILL)
    rest = [line for line in process.stdout if line.endswith("\n")]
    process.communicate()
    assert names(tmp_path) == ["out"]  # nothing to clean up, nothing to remove by mistake
    promised = {f"{batch}-{number} é" for batch in range(20 + len(rest)) for number in range(7)}
    with Journal.open(out, format, FIRST) as journal:
        kept = [record.path for record in read(out, format)]
        assert journal.done == len(kept) == len(set(kept))
        assert promised <= set(kept)
        journal.append([captioned(image) for image in journal.pending(map(ref, [*kept, "new"]))])
    assert [record.path for record in read(out, format)] == [*kept, "new"]
    assert names(tmp_path) == ["out"]


# --- Size


@both
def test_a_finished_record_takes_less_than_200_bytes_whatever_its_name(tmp_path: Path, format: Format) -> None:
    out, count = tmp_path / "out", 20_000
    refs = [ref(f"{'a long folder name/' * 5}{number}.jpg", number, number) for number in range(count)]
    write(out, [captioned(image) for image in refs], format)
    tracemalloc.start()
    with Journal.open(out, format, FIRST) as journal:
        _, peak = tracemalloc.get_traced_memory()
        assert journal.done == count
        assert peak < 200 * count
        assert sum(1 for _ in journal.pending(refs)) == 0
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 200 * count
    tracemalloc.stop()


def test_a_new_record_takes_less_than_200_bytes_too(tmp_path: Path) -> None:
    count = 20_000
    tracemalloc.start()
    with Journal.open(tmp_path / "out", "jsonl", FIRST) as journal:
        for number, image in enumerate(journal.pending(ref(f"{'x' * 100}{n}", n) for n in range(count))):
            if number % 1000 == 0:
                journal.append([captioned(image)])
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * count
