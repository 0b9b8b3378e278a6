"""Reading a journal without touching it, also while a run writes it: every record, or the last one of each key.

Nothing is locked. A pass ends where the file ended when the reader was made: what a run appends later is not seen.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from batchcap.errors import BatchcapError, InputNotFoundError, OutputError
from batchcap.journal.codec import Codec
from batchcap.journal.columns import are_last, digest
from batchcap.journal.format_csv import Csv
from batchcap.journal.formats import guess_format, make_codec
from batchcap.journal.recovery import LONGEST_LINE, TWO_HEADERS, line_error
from batchcap.options.output import Format, format_of_ending
from batchcap.records import Record

_NAME_ONE: Final = "Name a file that `batchcap run` has written."
_FIXES: Final = {errno.EACCES: "Give yourself the right to read it."}


class JournalReader:
    """The records of one journal; how the file begins tells its format, and its ending where it is empty.

    Raises, when it is made and when it is read:
        InputNotFoundError: there is no such file.
        OutputError: it cannot be read, is no journal, or holds a damaged line, which the message names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        """Bytes at the end that are the beginning of a line: a run writes it now, or was killed then. Known after a
        pass."""
        self.superseded = 0
        """Lines that a later line of the same key replaces. Known as soon as `last_records` has given a record."""
        with self.open() as file:
            self.size = os.fstat(file.fileno()).st_size
            """Bytes of the file when the reader was made."""
            self.codec = codec_of(file.readline(LONGEST_LINE), path)
            """Of its lines, with the columns that the file has."""

    @property
    def format(self) -> Format:
        """``jsonl`` or ``csv``."""
        return self.codec.name

    def records(self) -> Iterator[Record]:
        """Every record, in the order of the lines; superseded ones too."""
        with self.open() as file:
            for number, line in self.lines(file):
                yield self.decoded(number, line)

    def last_records(self, number: int = 0, offset: int = 0) -> Iterator[Record]:
        """The last record of each key, in the order of these lines.

        Reads the file twice: first to find which line of a key is the last. That takes about 50 bytes of memory a
        line, and 1 byte a line from then on.

        Args:
            number: lines to leave out at the start, as if they were not there.
            offset: how many bytes they are.
        """
        for each, line in self.last_lines(number, offset):
            yield self.decoded(each, line)

    def last_lines(self, number: int = 0, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """The lines of `last_records` as they are, each with its number and ended by LF."""
        with self.open() as file:
            is_last = are_last(self._digests(file, number, offset))
            self.superseded = len(is_last) - int(np.count_nonzero(is_last))
            for numbered, wanted in zip(self.lines(file, number, offset), is_last, strict=False):
                if wanted:
                    yield numbered

    def _digests(self, file: BinaryIO, after: int, offset: int) -> bytearray:
        digests = bytearray()
        for number, line in self.lines(file, after, offset):
            try:
                digests += digest(self.codec.scan(line).key)
            except (ValueError, RecursionError) as error:
                raise line_error(self.path, number, line, self.codec, error, _NAME_ONE) from None
        return digests

    def decoded(self, number: int, line: bytes) -> Record:
        """The record of a line of `lines`."""
        try:
            return self.codec.decode(line)
        except (ValueError, RecursionError) as error:
            raise line_error(self.path, number, line, self.codec, error, _NAME_ONE) from None

    def lines(self, file: BinaryIO, number: int = 0, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """The lines of records with their numbers and LF; a torn one at the end is left out.

        Args:
            file: open; anywhere.
            number: lines to leave out at the start.
            offset: how many bytes they are.
        """
        file.seek(offset)
        left, self.torn = self.size - offset, 0
        while left and (line := file.readline(min(left, LONGEST_LINE))):
            left -= len(line)
            number += 1
            try:
                if number == 1 and self.codec.header:
                    self._check_header(line)
                elif line == self.codec.header:
                    raise ValueError(TWO_HEADERS)
                elif left and line.endswith(b"\n"):
                    yield number, line
                else:  # an editor may have taken the end of the last line
                    whole = line.removesuffix(b"\n") + b"\n"
                    self.codec.scan(whole)
                    yield number, whole
            except (ValueError, RecursionError) as error:
                if left == 0 and self.codec.is_torn(line, first=number == 1):
                    self.torn = len(line)
                    return
                raise line_error(self.path, number, line, self.codec, error, _NAME_ONE) from None

    def _check_header(self, line: bytes) -> None:
        if line != self.codec.header:
            raise ValueError(self.codec.explain_header(line))

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file, for any number of passes: another program may put a new file in its place between them."""
        with reading(self.path), self.path.open("rb") as file:
            yield file


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Within, the system's errors about reading a journal are those of `JournalReader`."""
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} is a {'folder' if path.is_dir() else 'device or pipe'}, no journal.", _NAME_ONE)
        yield
    except BatchcapError:
        raise
    except FileNotFoundError:
        raise InputNotFoundError(f"There is no journal {path}.", _NAME_ONE) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise OutputError(f"{path} cannot be read: {why}.", _FIXES.get(error.errno or 0, "")) from error


def codec_of(first: bytes, path: Path) -> Codec:
    """The codec for a journal that begins with this line; ``path`` is for one that is empty or torn in its first line.

    It is the one that fits best where the line is of no journal.
    """
    name = guess_format(first)
    if name is None and len(first) < len(Csv.start) and Csv.start.startswith(first):
        name = format_of_ending(path) if not first else "csv"
    if name != "csv":
        return make_codec("jsonl")
    count = Csv().captions_in_header(first)
    # A header that was cut has no end, and its last columns may be missing.
    ranks = range(1, 3 + first.count(b",caption_"))
    return Csv(count or next((n for n in ranks if Csv(n).header.startswith(first)), 1))
