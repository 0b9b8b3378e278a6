"""The live output, JSONL or CSV, which is also the resume state: recover, lock, skip what is done, append.

`Journal.append` is the commit point: what it returned from survives a kill, a crash and a full disk. ``OUTPUT.lock``
lies beside the output while a run holds it; a killed run leaves that file, but not the lock, which the system frees.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Self

from filelock import FileLock, Timeout

from batchcap.errors import BatchcapError, MismatchError, OutputError, OutputLockedError
from batchcap.formats import Codec, guess_format, make_codec
from batchcap.options import Format, OnMismatch
from batchcap.records import Fingerprint, ImageRef, Record
from batchcap.resume import Finished, digest

# A file without line ends is not ours: do not read all of it into memory to find out.
_LONGEST_LINE: Final = 16 << 20
_NEW_NAME: Final = "Name another output file, or replace this one with --overwrite."
_KEPT: Final = "every record written so far is kept"
_ANEW: Final = "with --overwrite it starts anew"
_FIXES: Final = {
    errno.ENOSPC: "Free some space and run again: {kept}.",
    errno.EDQUOT: "Free some of your quota and run again: {kept}.",
    errno.EFBIG: "Raise the size limit of this system or account (ulimit -f) and run again: {kept}.",
    errno.EACCES: "Give yourself the right to write the file and its folder, or name another output.",
    errno.EPERM: "Give yourself the right to write the file and its folder, or name another output.",
    errno.EROFS: "The file system is read-only: name an output somewhere else.",
    errno.ENAMETOOLONG: "Name a shorter output file.",
}


class Journal:
    """An output file that is open for one run. Make it with `Journal.open`; it is a context manager.

    ``pending`` may run in another thread than ``append``; each is for one thread at a time.
    """

    def __init__(
        self, path: Path, file: BinaryIO, is_new: bool, codec: Codec, finished: Finished, closing: ExitStack
    ) -> None:
        self.path = path
        """The output, with symbolic links resolved."""
        self.skipped = 0
        """Pictures that `pending` left out because they are done."""
        self.repeated = 0
        """Pictures that `pending` left out because this run had met them before."""
        self.cut = 0
        """Bytes of a torn last line that were cut on opening."""
        self._live = Path(file.name)
        self._file = file
        self._is_new = is_new
        self._codec = codec
        self._finished = finished
        self._met: set[bytes] = set()
        self._committed = finished.size
        self._torn = False
        self._closing = closing

    @classmethod
    def open(
        cls,
        path: Path,
        format: Format,
        fingerprint: Fingerprint,
        *,
        on_mismatch: OnMismatch = "stop",
        overwrite: bool = False,
        retry_errors: bool = False,
        num_captions: int = 1,
    ) -> Journal:
        """Lock the output, read what it holds, and cut a torn last line.

        With ``overwrite`` the run writes to ``OUTPUT.partial`` and `commit` moves it over the output. Such a run always
        starts anew: a partial file may hold the records of other inputs. One that a stopped run left is a journal like
        any other: rename it to go on with it without ``overwrite``.

        Raises:
            OutputLockedError: another run holds the output.
            OutputError: it cannot be made, read or written, or it is no journal of this format; it is left as it was.
            MismatchError: it holds captions made under another fingerprint, and ``on_mismatch`` is ``stop``.
        """
        codec = make_codec(format, num_captions)
        finished = Finished(fingerprint, keep=on_mismatch == "keep", retry_errors=retry_errors)
        with ExitStack() as closing, _explained(path, "opened", overwrite):
            path = Path(os.path.realpath(path))
            _check_place(path)
            _lock(path, closing)
            live = _new_partial(path) if overwrite else path
            is_new = not live.exists()
            file = live.open("ab", buffering=0)
            closing.callback(_close, file)
            _recover(live, codec, finished)
            if on_mismatch == "stop":
                _check_fingerprint(path, finished, fingerprint)
            journal = cls(path, file, is_new, codec, finished, closing.pop_all())
        try:
            journal._begin()
        except BaseException:
            journal.close()
            raise
        return journal

    def _begin(self) -> None:
        """Cut what `_recover` did not take, and write the header of an empty file."""
        with _explained(self._live, "written", self._overwrites):
            self.cut = os.fstat(self._file.fileno()).st_size - self._committed
            if self.cut:
                self._cut()
            if self._committed == 0 and self._codec.header:
                self._write(self._codec.header)
            if self._is_new:
                _sync_folder(self.path.parent)

    @property
    def _overwrites(self) -> bool:
        return self._live != self.path

    @property
    def done(self) -> int:
        """How many pictures have a finished record now, in the file that this run writes to; read errors have none."""
        return self._finished.count

    def is_retry(self, ref: ImageRef) -> bool:
        """Whether an earlier run could not read this picture."""
        return self._finished.is_read_error(ref)

    def pending(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The pictures that need work, in order, each once: counts the others in `skipped` and `repeated`."""
        for ref in refs:
            name = digest(ref.key)
            row = self._finished.find(name)
            if name in self._met or (row is not None and self._finished.meet(row)):
                self.repeated += 1
            elif row is not None and self._finished.is_done(row, ref):
                self.skipped += 1
            else:
                if row is None:
                    self._met.add(name)
                yield ref

    def append(self, records: Sequence[Record]) -> None:
        """Write whole lines, all or none, and return when they are on the disk.

        An error that the output already holds, word for word, as its record of the picture is not written again.

        Raises:
            OutputError: they cannot be written (full disk, ...). The output ends with the last append that returned.
            ValueError: a record carries another fingerprint than the one given to `open`.
        """
        if not all(self._finished.is_ours(record) for record in records):
            raise ValueError("a record does not carry the fingerprint that the journal was opened with")
        lines = self._codec.encode([record for record in records if not self._finished.holds(record)])
        if lines:
            with _explained(self._live, "written", self._overwrites):
                self._write(lines)
        for record in records:
            self._finished.finish(record)

    def _write(self, lines: bytes) -> None:
        if self._torn:
            self._cut()
        if os.name != "nt" and os.fstat(self._file.fileno()).st_nlink == 0:
            raise OutputError(f"{self._live} was removed during the run.", "Run again, and leave it in its place.")
        self._torn = True
        try:
            view = memoryview(lines)
            while view:  # an unbuffered write may stop early
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except BaseException:  # Ctrl-C in the middle must not leave half a batch either
            with suppress(OSError):
                self._cut()
            raise
        self._committed += len(lines)
        self._torn = False

    def _cut(self) -> None:
        os.ftruncate(self._file.fileno(), self._committed)
        os.fsync(self._file.fileno())
        self._torn = False

    def commit(self) -> None:
        """The run has finished: with ``overwrite``, move the new file into its place. No `append` after that."""
        _close(self._file)
        self._is_new = False
        if not self._overwrites:
            return
        with _explained(self.path, "replaced", self._overwrites):
            if self.path.exists():
                shutil.copymode(self.path, self._live)
            self._live.replace(self.path)
            _sync_folder(self.path.parent)

    def close(self) -> None:
        """Give the output back to other runs; remove a file that this run made and wrote nothing into.

        May be called twice, and after any failure.
        """
        _close(self._file)
        if self._is_new:
            self._is_new = False
            with suppress(OSError):
                if self._live.stat().st_size <= len(self._codec.header):
                    self._live.unlink()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _explained(path: Path, done: str, overwrite: bool) -> Iterator[None]:
    """Turn the system's errors into ours, with the file and what to do."""
    try:
        yield
    except BatchcapError:
        raise
    except OSError as error:
        why = error.strerror or type(error).__name__
        fix = _FIXES.get(error.errno or 0, "").format(kept=_ANEW if overwrite else _KEPT)
        raise OutputError(f"{path} cannot be {done}: {why}.", fix) from error


def _check_place(path: Path) -> None:
    """Before the lock: filelock would make a missing folder, which is more often a typing error than a wish."""
    folder = path.parent
    if not folder.exists():
        raise OutputError(f"{path}: there is no folder {folder}.", f"Make it: mkdir -p '{folder}'")
    if not folder.is_dir():
        raise OutputError(f"{path}: {folder} is a file, not a folder.", "Name another output.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", f"Name a file in it, such as {path / 'captions.jsonl'}.")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise OutputError(f"{path} is not a regular file.", "Use -o - to write to standard output.")


def _lock(path: Path, closing: ExitStack) -> None:
    """Take the system's lock on ``OUTPUT.lock`` at once, or raise OutputLockedError."""
    name = path.with_name(path.name + ".lock")
    if _has_content(name):  # a lock file has none, and is removed in the end
        fix = "Move it, or name another output. If a run on a file system without locks has left it, remove it."
        raise OutputError(f"{name} is in the way: it is not empty, so it is no lock of batchcap.", fix)
    lock = FileLock(name, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        # filelock takes "no such file" for a lock that was just removed; some file systems mean "no files here" by it.
        name.touch()
        fix = "Wait until it ends, or name another output."
        raise OutputLockedError(f"Another run is writing {path}.", fix) from None
    closing.callback(lock.release)
    # Removed while it is still held: filelock (3.24 and later) looks again after locking and gives back a lock on a
    # file that has lost its name, so two runs never hold two files. Windows cannot remove an open file; filelock does.
    if os.name != "nt":
        closing.callback(name.unlink, missing_ok=True)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:  # mostly, that it is not there
        return False


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # every record was flushed and synced when it was written
        file.close()


def _new_partial(path: Path) -> Path:
    """The name of a new run's file beside the old output; a partial file of a stopped run is removed."""
    partial_path = path.with_name(path.name + ".partial")
    if partial_path.exists():
        with partial_path.open("rb") as file:
            head = file.read(64)
        if head and guess_format(head) is None:
            raise OutputError(f"{partial_path} is in the way, and it is no partial output.", "Move it, and run again.")
        partial_path.unlink()
    return partial_path


def _recover(path: Path, codec: Codec, finished: Finished) -> None:
    """Read a journal into ``finished``. What is behind ``finished.size`` may be cut.

    Raises:
        OutputError: a line is not ours. Only a last line that is the beginning of one of ours is passed over.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE), b""), 1):
            try:
                _take(line, number, codec, finished)
            except ValueError as error:
                if finished.size + len(line) == size and codec.is_torn(line, first=number == 1):
                    break
                raise _not_ours(path, number, line, codec, error) from None
            finished.size += len(line)
    finished.seal()


def _take(line: bytes, number: int, codec: Codec, finished: Finished) -> None:
    if number == 1 and codec.header:
        if line != codec.header:
            raise ValueError(codec.explain_header(line))
    elif line.endswith(b"\n"):
        finished.add(codec.scan(line))
    else:
        raise ValueError("it has no end")


def _not_ours(path: Path, number: int, line: bytes, codec: Codec, error: ValueError) -> OutputError:
    name = "CSV" if codec.header else "JSONL"
    if number > 1:
        fix = "Remove that line and run again (its image is captioned again), or start anew with --overwrite."
        return OutputError(f"{path}, line {number}: this is no {name} record of batchcap: {error}.", fix)
    guess = guess_format(line)
    if guess is not None and guess.upper() != name:
        return OutputError(f"{path} holds {guess.upper()}, not {name}.", f"Use --format {guess}, or another output.")
    return OutputError(f"{path} is not a {name} output of batchcap: line 1: {error}.", _NEW_NAME)


def _check_fingerprint(path: Path, finished: Finished, ours: Fingerprint) -> None:
    others = finished.others()
    if not others:
        return
    parts = []
    for part in ("model", "preprocess", "decoding"):
        now = getattr(ours, part)
        then = list(dict.fromkeys(getattr(other, part) for other, _ in others if getattr(other, part) != now))
        if then:
            more = f" and {len(then) - 3} more" if len(then) > 3 else ""
            parts.append(f"{part} was {', '.join(then[:3])}{more} and is now {now}")
    total = sum(count for _, count in others)
    fix = "Add --on-mismatch recaption to caption them again, --on-mismatch keep to leave them, or name another output."
    if finished.count:
        fix += (
            " If that was done already, they are captions of images that are no longer there: "
            "keep the option, or start anew with --overwrite."
        )
    raise MismatchError(
        f"{path}: {total} of its captions were made with other settings: {'; '.join(parts)}.",
        fix,
    )


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power failure. Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)
