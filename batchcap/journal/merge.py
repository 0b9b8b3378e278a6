"""Merging journals into one: a record for each image that one of them holds."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from batchcap.errors import OutputError
from batchcap.journal.codec import Codec
from batchcap.journal.columns import are_last, digest
from batchcap.journal.formats import make_codec
from batchcap.journal.live_file import LiveFile, check_ours
from batchcap.journal.merged_roots import OneRoot
from batchcap.journal.merged_rows import Rows
from batchcap.journal.reader import JournalReader
from batchcap.options.output import Format
from batchcap.records import Record
from batchcap.system.locks import is_locked
from batchcap.system.output_files import check_place, explained

_SHOWN: Final = 5
_TOGETHER: Final = 1000


@dataclass(slots=True)
class Version:
    """What one input says of an image."""

    path: Path
    """The input."""
    record: Record


@dataclass(slots=True)
class Input:
    """One of the journals."""

    path: Path
    records: int
    """Images that it holds."""
    torn: int
    """Bytes of a torn last line, which was left out."""
    in_use: bool
    """A run holds it: what that run writes from now on is not in the merged journal."""
    kept: int = 0
    """Images whose record came from here."""


@dataclass(slots=True)
class Merged:
    """What a merge did, or would do."""

    output: Path
    inputs: list[Input] = field(default_factory=list)
    """In the order given."""
    records: int = 0
    captions: int = 0
    shared: int = 0
    """Images that several inputs hold."""
    conflicts: int = 0
    """Images among them to which inputs give other captions, or captions made in other ways."""
    examples: list[list[Version]] = field(default_factory=list)
    """What the inputs say of the first of these images; the last caption was kept."""
    rescued: int = 0
    """Images whose caption was kept although a later input has an error for them."""
    ways: int = 0
    """In how many ways (model, preprocess, decoding) the captions were made."""
    moved: Counter[str | None] = field(default_factory=Counter)
    """Roots of lines that have another one now, with the number of lines."""


def plan(inputs: Sequence[Path], output: Path, format: Format, *, root: str | None = None) -> Merged:
    """What `merge` would do; nothing is written. Raises as `merge`, but for the output."""
    job = _Merge(inputs, output, format, root)
    return job.count([path for path in inputs if is_locked(path)])


def merge(
    inputs: Sequence[Path], output: Path, format: Format, *, root: str | None = None, overwrite: bool = False
) -> Merged:
    """Write one record for each image of several journals, in the order of the inputs and of their lines.

    Of a journal, the last line of an image is its record. Where several journals hold an image, the last caption in
    the order of ``inputs`` is kept, and an error only where none of them has a caption. A journal that a run writes is
    taken as it is now.

    Args:
        inputs: the journals; ``output`` may be one of them.
        output: the new journal. Nobody sees half of it.
        format: of ``output``; those of the inputs may be others.
        root: an absolute folder that all records get as their root. Paths of a root inside it get the way to it before
            them; those of any other root stay as they are: the same folder has several names on several hosts.
        overwrite: replace an output that is there.

    Raises:
        InputNotFoundError, OutputError: an input is missing or damaged, or the output cannot be written.
        OutputLockedError: a run holds the output.
        RootError: paths are relative to different folders, and no ``root`` was given.
    """
    with explained(output, "written", overwrite=False):
        in_use = [path for path in inputs if path.is_file() and is_locked(path)]
        output = Path(os.path.realpath(output))
        check_place(output)
        _check_output(output, overwrite=overwrite)
        with closing(LiveFile(output, b"", overwrite=False)) as live:
            # What it reads may be the output itself, which changes no more now.
            job = _Merge(inputs, output, format, root)
            merged = job.count(in_use)
            live.begin(output.stat().st_size, lacks_end=False)
            live.put(job.lines())
            live.commit(complete=True, keep=None)
    return merged


def _check_output(output: Path, *, overwrite: bool) -> None:
    if not overwrite and output.exists() and output.stat().st_size:
        raise OutputError(f"{output} is there already.", "Name another output, or add --overwrite.")
    check_ours(output)


class _Merge:
    """Reads every input twice: first to find which records stay."""

    def __init__(self, inputs: Sequence[Path], output: Path, format: Format, root: str | None) -> None:
        self.merged = Merged(output)
        self._readers = [JournalReader(path) for path in inputs]
        self._format = format
        self._roots = OneRoot(root)
        self._rows = Rows()
        self._last: list[np.ndarray] = []
        """For each input: [lines] whether a line is the last one of its image."""

    def count(self, in_use: Sequence[Path]) -> Merged:
        """The first reading; ``in_use`` are inputs that a run holds."""
        captions = 1
        for reader in self._readers:
            captions = max(captions, self._take(reader))
            records = int(np.count_nonzero(self._last[-1]))
            self.merged.inputs.append(Input(reader.path, records, reader.torn, reader.path in in_use))
        self._codec = make_codec(self._format, captions)
        merged, rows = self.merged, self._rows
        rows.choose()
        merged.records, merged.captions = rows.records, rows.captions
        merged.shared, merged.conflicts, merged.rescued = rows.shared, len(rows.conflicts), rows.rescued
        merged.ways = rows.ways
        self._note_examples()
        begin = 0
        for each in merged.inputs:
            each.kept = int(np.count_nonzero(rows.kept[begin : begin + each.records]))
            begin += each.records
        return merged

    def _take(self, reader: JournalReader) -> int:
        """Read an input; returns for how many captions an image it is made."""
        digests, texts, ways, errors = bytearray(), array("q"), array("i"), bytearray()
        captions = getattr(reader.codec, "num_captions", 1)
        with reader.open() as file:
            for number, line in reader.lines(file):
                written = reader.decoded(number, line)
                record = self._roots.moved(written, reader.path)
                if record is not written:
                    self.merged.moved[written.root] += 1
                digests += digest(record.key)
                texts.append(hash(record.caption))
                ways.append(self._rows.way(record))
                errors.append(record.error is not None)
                captions = max(captions, len(record.captions or ()))
        is_last = are_last(digests)
        self._last.append(is_last)
        self._rows.add(is_last, digests, texts, ways, errors)
        return captions

    def _note_examples(self) -> None:
        """Read what the inputs say of the first conflicts."""
        examples = {row: example for example, rows in enumerate(self._rows.conflicts[:_SHOWN]) for row in rows}
        self.merged.examples = [[] for _ in self._rows.conflicts[:_SHOWN]]
        if not examples:
            return
        for row, reader, number, line in self._last_lines():
            if row in examples:
                version = Version(reader.path, reader.decoded(number, line))
                self.merged.examples[examples[row]].append(version)

    def _last_lines(self) -> Iterator[tuple[int, JournalReader, int, bytes]]:
        """The row, the input, the number and the line of every record, one an input and image."""
        row = 0
        for reader, is_last in zip(self._readers, self._last, strict=True):
            with reader.open() as file:
                for (number, line), wanted in zip(reader.lines(file), is_last, strict=False):
                    if wanted:
                        yield row, reader, number, line
                        row += 1

    def lines(self) -> Iterator[bytes]:
        """The lines of the output: the second reading."""
        yield self._codec.header
        waiting: list[Record] = []
        for row, reader, number, line in self._last_lines():
            if not self._rows.kept[row]:
                continue
            changed = self._changed(reader, number, line)
            if changed is not None:
                waiting.append(changed)
            if waiting and (changed is None or len(waiting) == _TOGETHER):
                yield self._codec.encode(waiting)
                waiting.clear()
            if changed is None:
                yield line
        yield self._codec.encode(waiting)

    def _changed(self, reader: JournalReader, number: int, line: bytes) -> Record | None:
        """The record of a line that has to be written anew; None where the line stays, with fields not known here."""
        stays = _same(reader.codec, self._codec)
        if stays and self._roots.stays:
            return None
        record = reader.decoded(number, line)
        moved = self._roots.moved(record, reader.path)
        return None if stays and moved is record else moved


def _same(one: Codec, other: Codec) -> bool:
    """Whether a line of one codec is the same line of the other."""
    return (one.name, one.header) == (other.name, other.header)
