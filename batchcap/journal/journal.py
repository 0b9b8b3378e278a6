"""The live output, JSONL or CSV, which is also the resume state: open, skip what is done, append, commit.

`Journal.append` is the commit point: what it returned from survives a kill, a crash and a full disk.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Final, Self

from msgspec import structs

from batchcap.journal.codec import Codec
from batchcap.journal.columns import digests
from batchcap.journal.contents import Contents
from batchcap.journal.formats import make_codec
from batchcap.journal.live_file import LiveFile
from batchcap.journal.mismatch import check_fingerprint, check_root
from batchcap.journal.recovery import recover
from batchcap.journal.resume import ResumeIndex
from batchcap.journal.unlocked_file import UnlockedFile
from batchcap.options.journal import Fsync, IfChanged, RetryKind
from batchcap.options.output import Format
from batchcap.options.run import OnMismatch
from batchcap.records import KEPT_FAILURES, Fingerprint, ImageRef, Record
from batchcap.roots import Root
from batchcap.system.output_files import check_place, explained

# Images that are looked up together.
_TOGETHER: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuing:
    """What a run may do with records that it finds in its output."""

    on_mismatch: OnMismatch = "stop"
    """Of captions that were made with another model, preprocessing or decoding."""
    relocate: bool = False
    """The folder that paths are relative to has moved: write the new one into every record."""
    if_changed: IfChanged = "recaption"
    """What becomes of an image that has a caption, and another size or time than its record says."""
    retry_errors: tuple[RetryKind, ...] = ()
    """Try again the images that could not be decoded for one of these reasons."""
    accept_damaged: bool = False
    """Try again the images that are truncated or damaged."""
    checksum: bool = False
    """Know images by their content too; see `Journal.recall`."""
    by_key: bool = False
    """With ``checksum``: the name of an image decides its caption too, so it is no caption for another name."""


AS_USUAL: Final = Continuing()


class Journal:
    """An output file that is open for one run. Make it with `Journal.open`; it is a context manager.

    ``pending`` may run in another thread than ``append``; each is for one thread at a time.
    """

    def __init__(
        self,
        file: LiveFile,
        codec: Codec,
        how: Continuing,
        fingerprint: Fingerprint,
        root: Root | None,
        *,
        one_by_one: bool,
    ) -> None:
        """Read the records that the run goes on from, and check that those of this run may stand beside them."""
        self.skipped = 0
        """Images that `pending` left out because they are done."""
        self.skipped_kinds: Counter[str] = Counter()
        """Images among them that have no caption, by the kind of the error: they could not be decoded before, and have
        not changed."""
        self.skipped_examples: list[tuple[ImageRef, str]] = []
        """The first few of these images, with the kind."""
        self.repeated = 0
        """Images that `pending` left out because this run had seen them before."""
        self.root: str | None = None
        """What records carry as ``root``: the one that the output has already, spelled as there."""
        self.relocated = False
        """Another ``root`` was written into the records that the output had."""
        self._file = file
        self._codec = codec
        self._how = how
        self._one_by_one = one_by_one
        self._fingerprint = fingerprint
        self._seen: set[bytes] = set()
        self._index = self._read()
        moves = False
        if root is not None:
            check_root(file.path, self._index, root, relocate=how.relocate, unfinished=file.overwrites)
            moves = how.relocate and bool(self._index.roots.keys() - {root.text})
            known = [] if moves else [each for each in self._index.roots if each is not None]
            self.root = known[0] if known else root.text
        if how.on_mismatch == "stop":
            check_fingerprint(file.path, self._index, fingerprint, unfinished=file.overwrites)
        with file.explained("written"):
            self.cut, self.cut_text = file.begin(self._index.size, lacks_end=self._index.lacks_end)
            if moves and (new := self.root) is not None:
                file.rewrite(lambda line: codec.with_root(line, new))
                self._index = self._read()  # some paths are others now
                self.relocated = True

    def _read(self) -> ResumeIndex:
        how = self._how
        index = ResumeIndex(
            self._fingerprint,
            keep=how.on_mismatch == "keep",
            skip_changed=how.if_changed == "skip",
            retry_errors=how.retry_errors,
            accept_damaged=how.accept_damaged,
            contents=Contents(by_key=how.by_key) if how.checksum else None,
        )
        recover(self._file.path, self._codec, index)
        return index

    @classmethod
    def open(
        cls,
        path: Path,
        format: Format,
        fingerprint: Fingerprint,
        how: Continuing = AS_USUAL,
        *,
        root: Root | None = None,
        overwrite: bool = False,
        fsync: Fsync = "batch",
        num_captions: int = 1,
        read_only: bool = False,
    ) -> Journal:
        """Lock the output, read what it holds, and cut a torn last line.

        With ``overwrite`` the run writes to ``OUTPUT.partial`` and `commit` moves it over the output. It goes on with
        the file that a stopped run of the same kind has left; that file is checked like any output.

        Args:
            path: the output.
            format: of its lines.
            fingerprint: of the records that this run will append.
            how: what it may do with records that the output has.
            root: the folder that paths of this run are relative to; None does not look at roots.
            overwrite: start anew.
            fsync: when `append` forces records to the disk: each before the next one, all before it returns, or never.
            num_captions: captions an image, which decides the columns of CSV.
            read_only: only to ask what it holds: nothing is locked or changed, and another run may write it meanwhile.

        Raises:
            OutputLockedError: another run holds the output.
            OutputError: it cannot be made, read or written, or it is no journal of this format; it is left as it was.
            MismatchError: it holds captions made under another fingerprint, and ``how.on_mismatch`` is ``stop``.
            RootError: its paths are relative to another folder, and ``how.relocate`` is not set.
        """
        with explained(path, "opened", overwrite):
            path = Path(os.path.realpath(path))
            check_place(path)
            codec = make_codec(format, num_captions)
            kind = UnlockedFile if read_only else LiveFile
            file = kind(path, codec.header, overwrite=overwrite, syncs=fsync != "never")
            try:
                return cls(file, codec, how, fingerprint, root, one_by_one=fsync == "always")
            except BaseException:
                file.close()
                raise

    @property
    def path(self) -> Path:
        """The output, with symbolic links resolved."""
        return self._file.output

    @property
    def live(self) -> Path:
        """The file that this run writes to."""
        return self._file.path

    @property
    def unfinished(self) -> Path | None:
        """What a stopped run with ``overwrite`` has left beside the output, where this run does not go on with it."""
        return self._file.unfinished

    @property
    def replaces(self) -> bool:
        """Whether `commit` is to put a new file in the place of records."""
        return self._file.replaces

    @property
    def fresh(self) -> bool:
        """Whether the file that this run writes had no record of its model when the run began, not even an error."""
        return self._fingerprint.model not in self._index.models

    @property
    def done(self) -> int:
        """How many images have a finished record now, in the file that this run writes to; read errors have none."""
        return self._index.count

    def is_known(self, ref: ImageRef) -> bool:
        """Whether the output had a record of this image when the run began."""
        return self._index.find(ref.key) is not None

    @property
    def skipped_failures(self) -> int:
        """How many images `skipped_kinds` counts."""
        return self.skipped_kinds.total()

    def is_retry(self, ref: ImageRef) -> bool:
        """Whether this image failed in an earlier run and is tried again."""
        return self._index.is_retry(ref)

    def holds(self, record: Record) -> bool:
        """Whether `append` would not write this record, because it adds nothing: always an error."""
        return self._index.holds(record)

    def failed_alike(self, record: Record) -> bool:
        """Whether the record of this image, made by an earlier run, is the same error; ask before `append`."""
        return self._index.failed_alike(record)

    def pending(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The images that need work, in order, each once: counts the others in `skipped` and `repeated`."""
        for some in _blocks(refs):
            names = digests([ref.key for ref in some])
            for ref, name, found in zip(some, names, self._index.look_up(some, names), strict=True):
                if name in self._seen or (found.row >= 0 and self._index.mark_seen(found.row)):
                    self.repeated += 1
                elif found.is_done:
                    self.skipped += 1
                    if found.failed:
                        self.skipped_kinds[found.failed] += 1
                        if len(self.skipped_examples) < KEPT_FAILURES:
                            self.skipped_examples.append((ref, found.failed))
                else:
                    if found.row < 0:
                        self._seen.add(name)
                    yield ref

    def append(self, records: Sequence[Record]) -> None:
        """Write whole lines, all or none, and return when they are on the disk (with ``fsync`` never: the system's).

        With ``fsync`` always each line is written and forced to the disk alone, so the first ones may stay where the
        others cannot be written.

        An error that the output already holds, word for word, as its record of the image is not written again; nor is
        one of reading where the output holds a caption of the same file.

        Raises:
            OutputError: they cannot be written (full disk, ...), or another program has changed, moved or removed the
                output. The output ends with the last append that returned.
            ValueError: a record carries another fingerprint or root than the one given to `open`.
        """
        if not all(self._index.is_ours(record) and record.root == self.root for record in records):
            raise ValueError("a record does not carry the fingerprint and root that the journal was opened with")
        held = [self._index.holds(record) for record in records]
        data = self._codec.encode([record for record, is_held in zip(records, held, strict=True) if not is_held])
        lines = data.splitlines(keepends=True)
        places = accumulate(map(len, lines), initial=self._file.size)
        for some in lines if self._one_by_one else filter(None, [data]):
            with self._file.explained("written"):
                self._file.append(some)
        for record, is_held in zip(records, held, strict=True):
            self._index.finish(record, None if is_held else next(places))

    def recall(self, ref: ImageRef, sha256: str) -> Record | None:
        """The record of an image whose content has a caption of this run's fingerprint already; None: it has none.

        It is to be appended: this image has that caption, its own name, size and time, and the hash. May be called by
        any thread.

        Args:
            ref: the image.
            sha256: of its file, as hex digits.
        """
        contents = self._index.contents
        place = None if contents is None else contents.find(ref, sha256)
        if place is None:
            return None
        try:
            record = self._codec.decode(self._file.line_at(place))
        except (OSError, ValueError):  # another program has changed the output: `append` says so
            return None
        if record.error is not None or record.sha256 not in (None, sha256) or not self._index.is_ours(record):
            return None
        names = {"path": ref.path, "member": ref.member, "path_b64": ref.path_b64, "root": self.root}
        return structs.replace(record, **names, bytes=ref.size, mtime_us=ref.mtime_us, sha256=sha256)

    def next_pass(self) -> None:
        """The same images may come again, as in a folder that is watched; ask `pending` anew, when its last has ended.

        What this run has written is from now on what the journal holds: an image that has not changed since is done, a
        changed one is captioned again. `skipped`, `skipped_failures` and `repeated` count from zero. What
        ``retry_errors`` and ``accept_damaged`` try again was tried in the first pass, and is not in the next ones.
        Memory grows with the number of images in the journal, not with the passes.
        """
        self._seen.clear()
        self._index.next_pass()
        self.skipped = self.repeated = 0
        self.skipped_kinds = Counter()
        self.skipped_examples = []

    def commit(self, complete: bool = True) -> None:
        """The run has come to its end. No `append` after that.

        Args:
            complete: every image has its record: with ``overwrite`` the new file takes the place of the old one. It
                keeps the records of this run's images only, should an earlier run have left others in it.

        Raises:
            OutputError: another program has changed, moved or removed the output during the run.
        """
        with self._file.explained("replaced" if self._file.overwrites else "written"):
            self._file.commit(complete=complete, keep=self._if_seen if self._index.unseen else None)

    def _if_seen(self, line: bytes) -> bytes | None:
        return line if self._index.is_seen(self._codec.scan(line)) else None

    def close(self) -> None:
        """Give the output back to other runs; remove a file that this run made and wrote nothing into.

        May be called twice, and after any failure.
        """
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _blocks(refs: Iterable[ImageRef]) -> Iterator[list[ImageRef]]:
    """Images many at a time; the first ones sooner, so that the model is not kept waiting."""
    source, size = iter(refs), 1
    while some := list(islice(source, size)):
        yield some
        size = min(2 * size, _TOGETHER)
