"""Writing a journal: what was committed survives everything, one run at a time, and an error names its cause."""

from __future__ import annotations

import io
import os
import signal
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from journals import FIRST, FORMATS, SECOND, both, captioned, failed, names, posix, python, read, ref, write

from batchcap.errors import BatchcapError, OutputError, OutputLockedError
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.journal.stream import StreamJournal
from batchcap.options.output import Format
from batchcap.records import ImageRef
from batchcap.roots import Root
from batchcap.system import locks

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


def _shorten(out: Path) -> None:
    out.write_bytes(out.read_bytes()[:30])


def _lengthen(out: Path) -> None:
    with out.open("ab") as file:
        file.write(b"# a note\n")


def _replace(out: Path) -> None:
    out.with_name("copy").write_bytes(out.read_bytes())
    out.with_name("copy").rename(out)


def _rename(out: Path) -> None:
    out.rename(out.with_name("rotated"))


MEDDLING = [
    (Path.unlink, "was removed or renamed during the run"),
    (_rename, "was removed or renamed during the run"),
    (_replace, "was replaced by another file during the run"),
    (_shorten, "was changed by another program during the run: it has 30 bytes where"),
    (_lengthen, "was changed by another program during the run: it has"),
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
            _replace(out)
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


def test_a_run_that_finished_without_pictures_leaves_an_empty_output(tmp_path: Path) -> None:
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


KILLED = """
    out, format = t.Path(sys.argv[1]), sys.argv[2]
    with t.Journal.open(out, format, t.FIRST) as journal:
        for batch in range(10**9):
            named = [f"{batch}-{number} é" for number in range(7)]
            journal.append([t.captioned(t.ref(name), "two\\nlines") for name in named])
            print(batch, flush=True)
    """


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
        journal.append([captioned(picture) for picture in journal.pending(map(ref, [*kept, "new"]))])
    assert [record.path for record in read(out, format)] == [*kept, "new"]
    assert names(tmp_path) == ["out"]


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
            journal.append([captioned(picture) for picture in refs[start : start + 50]])
        thread.join()
        assert passed == refs[500:]
    assert len(read(out)) == 2000


# --- Overwrite


@both
def test_overwrite_keeps_the_old_file_until_commit(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("old"))], format)
    out.chmod(0o640)
    before = out.read_bytes()
    with Journal.open(out, format, SECOND, overwrite=True) as journal:
        assert journal.done == 0
        refs = [ref("old"), ref("new")]
        assert list(journal.pending(refs)) == refs
        journal.append([captioned(picture, fingerprint=SECOND) for picture in refs])
        assert out.read_bytes() == before
        journal.commit()
    assert [record.path for record in read(out, format)] == ["old", "new"]
    assert out.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["out"]


def test_a_stopped_overwrite_leaves_the_old_file_and_the_next_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("old"))])
    before = out.read_bytes()
    with Journal.open(out, "jsonl", SECOND, overwrite=True) as journal:
        journal.append([captioned(ref("a"), fingerprint=SECOND)])
    assert out.read_bytes() == before
    with Journal.open(out, "jsonl", SECOND, overwrite=True) as journal:
        assert [picture.path for picture in journal.pending([ref("a"), ref("b")])] == ["b"]
        journal.append([captioned(ref("b"), fingerprint=SECOND)])
        journal.commit()
    assert [record.path for record in read(out)] == ["a", "b"]
    assert names(tmp_path) == ["out"]


def test_the_new_file_of_other_settings_or_another_root_or_that_is_damaged_is_told_and_kept(tmp_path: Path) -> None:
    """One mistyped option must not throw away what a night has made."""
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    ours = make_codec("jsonl").encode([captioned(ref("a")), captioned(ref("b"))])
    ours = ours.replace(b'"model"', b'"root":"/photos","model"')
    for left, why in (
        (ours.replace(b"11111111", b"99999999"), "model was small@99999999 and is now small@11111111"),
        (ours.replace(b"/photos", b"/other"), "its paths are relative to /other"),
        (b'{"path":"x"}\n' + ours, "is not a JSONL output of batchcap: line 1"),
        (ours + b"garbage\n" + ours, r"line 3: this is no JSONL record"),
        (make_codec("csv").header, "holds CSV, not JSONL"),
    ):
        partial.write_bytes(left)
        with pytest.raises(BatchcapError, match=rf"out\.partial.*{why}") as caught:
            Journal.open(out, "jsonl", FIRST, root=Root("/photos", ("/photos",)), overwrite=True)
        if "garbage" not in str(left):
            assert "remove" in caught.value.fix or "--format" in caught.value.fix
        assert partial.read_bytes() == left
        assert names(tmp_path) == ["out.partial"]


@posix
def test_what_is_no_regular_file_is_in_the_way_of_overwrite(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    write(tmp_path / "other", [captioned(ref("x"))])
    before = (tmp_path / "other").read_bytes()
    for make in (lambda: os.mkfifo(partial), partial.mkdir, lambda: partial.symlink_to(tmp_path / "other")):
        make()
        with pytest.raises(OutputError, match=r"out\.partial is in the way"):
            Journal.open(out, "jsonl", FIRST, overwrite=True)
        write(out, [captioned(ref("a"))])  # another run has no use for it
        out.unlink()
        partial.rmdir() if partial.is_dir() else partial.unlink()
    assert (tmp_path / "other").read_bytes() == before


@posix
@pytest.mark.parametrize("meddle", [_lengthen, _replace, _rename, Path.unlink])
def test_an_output_that_changed_while_its_successor_was_made_is_not_replaced(
    tmp_path: Path, meddle: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("old"))])
    with Journal.open(out, "jsonl", FIRST, overwrite=True) as journal:
        journal.append([captioned(ref("new"))])
        meddle(out)
        left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(OutputError, match=r"out was (replaced|removed|changed)") as caught:
            journal.commit()
        assert "out.partial: the same command puts it in its place" in caught.value.fix
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == left
    write(out, [], overwrite=True)


@posix
def test_the_new_file_has_the_rights_of_the_old_one_from_its_first_byte(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    write(out, [captioned(ref("old"))])
    out.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(out, 1234, 1234)
    before = out.stat()
    with Journal.open(out, "jsonl", FIRST, overwrite=True) as journal:
        journal.append([captioned(ref("new"))])
        assert partial.stat().st_mode & 0o777 == 0o600
        journal.commit()
    after = out.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_run_without_overwrite_tells_of_what_a_stopped_one_has_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Journal.open(out, "jsonl", FIRST, overwrite=True) as journal:
        journal.append([captioned(ref("a"))])
    with Journal.open(out, "jsonl", FIRST) as journal:
        assert journal.unfinished == tmp_path / "out.partial"


def test_the_longest_name_that_a_file_can_have_will_do(tmp_path: Path) -> None:
    out = tmp_path / ("x" * 249 + ".jsonl")
    write(out, [captioned(ref("a"))])
    assert [record.path for record in read(out)] == ["a"]


@posix
def test_kill_9_of_an_overwrite_and_the_same_command_keeps_what_was_captioned(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("old"))])
    before = out.read_bytes()
    process = python(KILLED.replace("t.FIRST)", "t.FIRST, overwrite=True)"), out, "jsonl")
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    with pytest.raises(OutputLockedError):
        Journal.open(out, "jsonl", FIRST)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert out.read_bytes() == before
    with Journal.open(out, "jsonl", FIRST, overwrite=True) as journal:
        assert journal.done >= 35


def test_overwrite_makes_an_output_that_was_not_there_and_replaces_outputs_only(tmp_path: Path) -> None:
    write(tmp_path / "new", [captioned(ref("a"))], overwrite=True)
    assert read(tmp_path / "new") == [captioned(ref("a"))]
    csv = make_codec("csv").header
    for number, ours in enumerate(
        (
            csv,
            csv.replace(b",root", b""),
            b"\xef\xbb\xbf" + csv.replace(b",", b";"),
            b"",
            b'{"path":"a',
            b'{"path":"a","cap',
        )
    ):
        (tmp_path / f"{number}").write_bytes(ours)
        write(tmp_path / f"{number}", [captioned(ref("a"))], overwrite=True)
    photo = tmp_path / "photo.jpg"
    labels = b'{"path":"a.jpg","label":"dog"}\n'
    tables = (b'"path","label"\n"a.jpg","dog"\n', b"path\tlabel\na.jpg\tdog\n", b"path;label\n")
    jpeg = b"\xff\xd8\xff\xe0 a photo of the inputs"
    for foreign in (b"notes", jpeg, b"{}\n", labels, labels[:-1], b'{"path":"b.jpg","tags":[', *tables):
        photo.write_bytes(foreign)
        with pytest.raises(OutputError, match="is no output of batchcap") as caught:
            Journal.open(photo, "jsonl", FIRST, overwrite=True)
        assert "remove this one yourself" in caught.value.fix
        assert photo.read_bytes() == foreign


def test_a_foreign_file_in_the_way_of_overwrite_is_left_alone(tmp_path: Path) -> None:
    for foreign in ("a download", '{"path":"x","label":"mine"}\n'):
        (tmp_path / "out.partial").write_text(foreign)
        with pytest.raises(OutputError, match=r"out\.partial is not a JSONL output of batchcap"):
            Journal.open(tmp_path / "out", "jsonl", FIRST, overwrite=True)
        assert (tmp_path / "out.partial").read_text() == foreign


def test_a_foreign_new_file_as_long_as_a_header_is_not_removed(tmp_path: Path) -> None:
    header = make_codec("csv").header
    partial = tmp_path / "out.partial"
    partial.write_bytes(b"x" * len(header))
    with pytest.raises(OutputError):
        Journal.open(tmp_path / "out", "csv", FIRST, overwrite=True)
    assert partial.read_bytes() == b"x" * len(header)


def test_files_that_are_called_as_ours_could_be_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    others = [tmp_path / f"out.{ending}" for ending in ("rewrite", "rewritten", "lock", "decoding", "partial")]
    for other in others:
        write(other, [captioned(ref("theirs"))])
    write(out, [captioned(ref("a"))])
    assert all([record.path for record in read(other)] == ["theirs"] for other in others)


# --- Standard output


class _Pipe(io.BytesIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_a_stream_gets_every_picture_once_and_a_flush_a_batch() -> None:
    pipe = _Pipe()
    refs = [ref("a"), ref("b"), ref("a")]
    with StreamJournal(pipe) as journal:
        assert [picture.path for picture in journal.pending(refs)] == ["a", "b"]
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


# --- Size


@both
def test_a_finished_record_takes_less_than_200_bytes_whatever_its_name(tmp_path: Path, format: Format) -> None:
    out, count = tmp_path / "out", 20_000
    refs = [ref(f"{'a long folder name/' * 5}{number}.jpg", number, number) for number in range(count)]
    write(out, [captioned(picture) for picture in refs], format)
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
        for number, picture in enumerate(journal.pending(ref(f"{'x' * 100}{n}", n) for n in range(count))):
            if number % 1000 == 0:
                journal.append([captioned(picture)])
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * count
