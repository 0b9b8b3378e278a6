"""The live output, JSONL or CSV, which is also the resume state: lock, recover, skip what is done, append.

`Journal.append` is the commit point: what it returned from survives a kill, a crash and a full disk. A run holds the
lock of the output file itself (`batchcap.system.locks`), so nothing lies beside it; with ``overwrite`` the new file,
``OUTPUT.partial``, does until it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from batchcap.errors import OutputError
from batchcap.journal.codec import Codec
from batchcap.journal.formats import make_codec
from batchcap.journal.mismatch import check_fingerprint, check_root
from batchcap.journal.recovery import looks_like_ours, recover
from batchcap.journal.resume import Finished, digest
from batchcap.options.options import Format, OnMismatch
from batchcap.records import Fingerprint, ImageRef, Record
from batchcap.roots import Root
from batchcap.system.locks import open_locked
from batchcap.system.output_files import (
    check_place,
    explained,
    own_file,
    sync_folder,
    take_over,
)

_REWRITTEN: Final = "rewritten"
_SHOWN_TAIL: Final = 300
_CHANGED: Final = (
    "What is there now was left as it is. Run again: images without a record are captioned again. "
    "Let no other program write the output during a run."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuing:
    """What a run may do with records that it finds in its output."""

    on_mismatch: OnMismatch = "stop"
    """Of captions that were made with another model, preprocessing or decoding."""
    relocate: bool = False
    """The folder that paths are relative to has moved: write the new one into every record."""
    retry_errors: bool = False
    """Try again the images that could not be decoded."""
    accept_damaged: bool = False
    """Try again the images that are truncated or damaged."""


class Journal:
    """An output file that is open for one run. Make it with `Journal.open`; it is a context manager.

    ``pending`` may run in another thread than ``append``; each is for one thread at a time.
    """

    def __init__(self, path: Path, codec: Codec, how: Continuing, closing: ExitStack) -> None:
        self.path = path
        """The output, with symbolic links resolved."""
        self.skipped = 0
        """Images that `pending` left out because they are done."""
        self.skipped_failures = 0
        """Images among them that have no caption: they could not be decoded before, and have not changed."""
        self.repeated = 0
        """Images that `pending` left out because this run had met them before."""
        self.cut = 0
        """Bytes of a torn last line that were cut on opening."""
        self.cut_text = ""
        """What they said, as far as it is not too long: it may have been somebody's note."""
        self.unfinished: Path | None = None
        """What a stopped run with ``overwrite`` has left beside the output, where this run does not go on with it."""
        self.root: str | None = None
        """What records carry as ``root``: the one that the output has already, spelled as there."""
        self._codec = codec
        self._how = how
        self._closing = closing
        self._met: set[bytes] = set()
        self._torn = False
        self._moves = False

    @classmethod
    def open(
        cls,
        path: Path,
        format: Format,
        fingerprint: Fingerprint,
        *,
        root: Root | None = None,
        on_mismatch: OnMismatch = "stop",
        relocate: bool = False,
        overwrite: bool = False,
        retry_errors: bool = False,
        accept_damaged: bool = False,
        num_captions: int = 1,
    ) -> Journal:
        """Lock the output, read what it holds, and cut a torn last line.

        With ``overwrite`` the run writes to ``OUTPUT.partial`` and `commit` moves it over the output. It goes on with
        the file that a stopped run of the same kind has left; that file is checked like any output.

        Args:
            path: the output.
            format: of its lines.
            fingerprint: of the records that this run will append.
            root: the folder that paths of this run are relative to; None does not look at roots.
            on_mismatch, relocate, retry_errors, accept_damaged: see `Continuing`.
            overwrite: start anew.
            num_captions: captions an image, which decides the columns of CSV.

        Raises:
            OutputLockedError: another run holds the output.
            OutputError: it cannot be made, read or written, or it is no journal of this format; it is left as it was.
            MismatchError: it holds captions made under another fingerprint, and ``on_mismatch`` is ``stop``.
            RootError: its paths are relative to another folder, and ``relocate`` is not set.
        """
        how = Continuing(
            on_mismatch=on_mismatch, relocate=relocate, retry_errors=retry_errors, accept_damaged=accept_damaged
        )
        with ExitStack() as closing, explained(path, "opened", overwrite):
            path = Path(os.path.realpath(path))
            check_place(path)
            journal = cls(path, make_codec(format, num_captions), how, closing)
            journal._lock(overwrite)
            journal._load(fingerprint, root)
            journal._closing = closing.pop_all()
        try:
            journal._begin(fingerprint)
        except BaseException:
            journal.close()
            raise
        return journal

    def _lock(self, overwrite: bool) -> None:
        """Open the output and, with ``overwrite``, the new file, and hold both."""
        self._held, self._made_output = open_locked(self.path)
        self._closing.callback(self._let_go)
        self._live, self._file, self._is_new = self.path, self._held, self._made_output
        self._old = _state(self._held)
        partial = self.path.with_name(self.path.name + ".partial")
        if overwrite:
            if not looks_like_ours(self.path):
                raise OutputError(
                    f"{self.path} is no output of batchcap, and --overwrite replaces only those.",
                    "Name another output file, or remove this one yourself.",
                )
            if partial.is_symlink() or (partial.exists() and not partial.is_file()):
                raise OutputError(f"{partial} is in the way: it is no regular file.", "Move it, and run again.")
            self._file, self._is_new = open_locked(partial)
            self._live = partial
            if self._is_new:
                take_over(self._held, self._file)
        else:
            with suppress(OSError):  # a name that is too long with its ending
                self.unfinished = partial if partial.is_file() else None
        with suppress(OSError):  # what a run has left that was killed while it rewrote the file
            own_file(self._live, _REWRITTEN).unlink()

    def _load(self, fingerprint: Fingerprint, root: Root | None) -> None:
        """Read the records that this run goes on from."""
        how = self._how
        self._model = fingerprint.model
        self._finished = self._recovered(fingerprint)
        self._committed = self._finished.size
        if root is not None:
            check_root(self._live, self._finished, root, relocate=how.relocate, unfinished=self._overwrites)
            self._moves = how.relocate and bool(self._finished.roots.keys() - {root.text})
            known = [] if self._moves else [each for each in self._finished.roots if each is not None]
            self.root = known[0] if known else root.text
        if how.on_mismatch == "stop":
            check_fingerprint(self._live, self._finished, fingerprint, unfinished=self._overwrites)

    def _recovered(self, fingerprint: Fingerprint) -> Finished:
        how = self._how
        keep = how.on_mismatch == "keep"
        finished = Finished(fingerprint, keep=keep, retry_errors=how.retry_errors, accept_damaged=how.accept_damaged)
        recover(self._live, self._codec, finished)
        return finished

    def _begin(self, fingerprint: Fingerprint) -> None:
        """Cut what `recover` did not take, write the header of an empty file, and note that the images have moved."""
        with explained(self._live, "written", self._overwrites):
            self.cut = os.fstat(self._file.fileno()).st_size - self._committed
            if self.cut:
                self.cut_text = self._tail()
                self._cut()
            if self._finished.lacks_end:
                self._write(b"\n")
            if self._committed == 0 and self._codec.header:
                self._write(self._codec.header)
            if self._is_new or self._made_output:
                sync_folder(self.path.parent)
            if self._moves:
                root = self.root
                assert root is not None
                self._rewrite(lambda line: self._codec.with_root(line, root))
                self._finished = self._recovered(fingerprint)  # some paths are others now

    @property
    def _overwrites(self) -> bool:
        return self._live != self.path

    @property
    def live(self) -> Path:
        """The file that this run writes to."""
        return self._live

    @property
    def replaces(self) -> bool:
        """Whether `commit` is to put a new file in the place of records."""
        return self._overwrites and self._old[0] > 0

    @property
    def fresh(self) -> bool:
        """Whether this run began with no record of its model, of an error neither, in the file that it writes to."""
        return self._model not in self._finished.models

    @property
    def done(self) -> int:
        """How many images have a finished record now, in the file that this run writes to; read errors have none."""
        return self._finished.count

    def is_retry(self, ref: ImageRef) -> bool:
        """Whether this image failed in an earlier run and is tried again."""
        return self._finished.is_retry(ref)

    def pending(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The images that need work, in order, each once: counts the others in `skipped` and `repeated`."""
        for ref in refs:
            name = digest(ref.key)
            row = self._finished.find(name)
            if name in self._met or (row is not None and self._finished.meet(row)):
                self.repeated += 1
            elif row is not None and self._finished.is_done(row, ref):
                self.skipped += 1
                self.skipped_failures += self._finished.is_failed(row)
            else:
                if row is None:
                    self._met.add(name)
                yield ref

    def append(self, records: Sequence[Record]) -> None:
        """Write whole lines, all or none, and return when they are on the disk.

        An error that the output already holds, word for word, as its record of the image is not written again; nor is
        one of reading where the output holds a caption of the same file.

        Raises:
            OutputError: they cannot be written (full disk, ...), or another program has changed, moved or removed the
                output. The output ends with the last append that returned.
            ValueError: a record carries another fingerprint or root than the one given to `open`.
        """
        if not all(self._finished.is_ours(record) and record.root == self.root for record in records):
            raise ValueError("a record does not carry the fingerprint and root that the journal was opened with")
        lines = self._codec.encode([record for record in records if not self._finished.holds(record)])
        if lines:
            with explained(self._live, "written", self._overwrites):
                self._write(lines)
        for record in records:
            self._finished.finish(record)

    def _write(self, lines: bytes) -> None:
        if self._torn:
            self._cut()
        self._check_unchanged()
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

    def _check_unchanged(self) -> None:
        """Whether the file is still in its place and holds what was committed, nothing less and nothing more."""
        ours = os.fstat(self._file.fileno())
        try:
            there = self._live.stat()
        except FileNotFoundError:
            raise OutputError(f"{self._live} was removed or renamed during the run.", _CHANGED) from None
        if not os.path.samestat(ours, there):
            raise OutputError(f"{self._live} was replaced by another file during the run.", _CHANGED)
        if ours.st_size != self._committed:
            raise OutputError(
                f"{self._live} was changed by another program during the run: it has {ours.st_size:,} bytes where "
                f"{self._committed:,} were written.",
                _CHANGED,
            )

    def _tail(self) -> str:
        with self._live.open("rb") as file:
            file.seek(self._committed)
            return file.read(_SHOWN_TAIL).decode("utf-8", "replace").rstrip("\0\r\n")

    def _cut(self) -> None:
        # Longer is the rest of a write that failed. Shorter is not ours: making it longer would fill it with zeros.
        if os.fstat(self._file.fileno()).st_size > self._committed:
            os.ftruncate(self._file.fileno(), self._committed)
            os.fsync(self._file.fileno())
        self._torn = False

    def _rewrite(self, change: Callable[[bytes], bytes | None]) -> None:
        """Put a changed copy in the file's place, whole or not at all; a line that becomes None is left out."""
        copy, old = own_file(self._live, _REWRITTEN), self._file
        with suppress(FileNotFoundError):
            copy.unlink()
        file, _ = open_locked(copy)
        try:
            take_over(old, file)
            size = _copy_lines(self._live, copy, self._codec.header, change)
            self._check_unchanged()
            _replace(copy, self._live, old)
        except BaseException:
            file.close()
            with suppress(OSError):
                copy.unlink()
            raise
        if self._held is old:
            self._held = file
        self._file, self._committed = file, size
        _close(old)

    def commit(self, complete: bool = True) -> None:
        """The run has come to its end. No `append` after that.

        Args:
            complete: every image has its record: with ``overwrite`` the new file takes the place of the old one. It
                keeps the records of this run's images only, should an earlier run have left others in it.

        Raises:
            OutputError: another program has changed, moved or removed the output during the run.
        """
        with explained(self._live, "replaced" if self._overwrites else "written", self._overwrites):
            if self._torn:
                self._cut()
            self._check_unchanged()
            self._is_new = self._made_output = False
            if not self._overwrites:
                return
            if not complete:
                self._made_output = os.fstat(self._held.fileno()).st_size == 0
                return
            if self._finished.unmet:
                self._rewrite(lambda line: line if self._finished.has_met(self._codec.scan(line)) else None)
            self._check_old()
            take_over(self._held, self._file)
            _replace(self._live, self.path, self._held)
            self._live = self.path

    def _check_old(self) -> None:
        """Whether the output that is to be replaced is still the one that was there when the run began."""
        fix = f"It was left as it is. The new output is whole in {self._live}: the same command puts it in its place."
        try:
            there = self.path.stat()
        except FileNotFoundError:
            raise OutputError(f"{self.path} was removed or renamed during the run.", fix) from None
        if not os.path.samestat(os.fstat(self._held.fileno()), there) or _state(self._held) != self._old:
            raise OutputError(f"{self.path} was replaced or changed by another program during the run.", fix)

    def close(self) -> None:
        """Give the output back to other runs; remove a file that this run made and wrote nothing into.

        May be called twice, and after any failure.
        """
        self._closing.close()

    def _let_go(self) -> None:
        """Remove what is empty while it is still locked, then close, which gives the locks back."""
        if getattr(self, "_file", None) is not None:
            if self._is_new or self._overwrites:
                _remove_empty(self._live, self._file, self._codec.header)
            if self._made_output and self._overwrites:
                _remove_empty(self.path, self._held)
            _close(self._file)
        _close(self._held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # every record was flushed and synced when it was written
        file.close()


def _remove_empty(path: Path, file: BinaryIO, header: bytes = b"") -> None:
    """Remove a file that holds nothing but a header, if it is still the one that is open."""
    with suppress(OSError, ValueError):
        there = path.stat()
        ours = there.st_size <= len(header) and path.read_bytes() in {b"", header}
        if ours and os.path.samestat(os.fstat(file.fileno()), there):
            path.unlink()


def _state(file: BinaryIO) -> tuple[int, int]:
    """Size and time of the last change: what tells that somebody else has written."""
    info = os.fstat(file.fileno())
    return info.st_size, info.st_mtime_ns


def _copy_lines(source: Path, target: Path, header: bytes, change: Callable[[bytes], bytes | None]) -> int:
    """Copy a journal line by line; returns the bytes that are on the disk now."""
    with source.open("rb") as lines, target.open("r+b") as file:
        for number, line in enumerate(lines):
            written = line if number == 0 and header else change(line)
            if written is not None:
                file.write(written)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _replace(new: Path, old: Path, held: BinaryIO) -> None:
    """Move a file over another one and make that survive a power failure."""
    if os.name == "nt":  # which replaces no open file
        _close(held)
    new.replace(old)
    sync_folder(old.parent)
