"""What is wrong with a journal: every line is looked at, and what can be saved of the damaged ones is told apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from batchcap.errors import OutputError
from batchcap.journal.codec import Codec
from batchcap.journal.columns import digest, rows_of
from batchcap.journal.format_csv import Csv
from batchcap.journal.format_jsonl import Jsonl
from batchcap.journal.reader import codec_of
from batchcap.journal.recovery import BOM, LONGEST_LINE
from batchcap.journal.salvage import Part, image_of, parts, wrong_with

_SHOWN: Final = 10
_SHOWN_BYTES: Final = 80
_MOST_NAMES: Final = 10_000


@dataclass(slots=True)
class Damage:
    """What is wrong with a journal, and what became of it."""

    path: Path
    records: int = 0
    """Whole records; all of them stay."""
    saved: int = 0
    """Records among them that were found in damaged lines."""
    lines: int = 0
    """Damaged lines."""
    header: bool = False
    """The header of a CSV journal is missing or damaged."""
    rejected: int = 0
    """Parts of damaged lines that are no record."""
    examples: list[tuple[int, Part]] = field(default_factory=list)
    """The first such parts, with the numbers of their lines."""
    lost: list[str] = field(default_factory=list)
    """The paths of some images whose only record was damaged: the next run captions them again."""
    lost_count: int = 0
    kept_count: int = 0
    """Images whose damaged record is one of several: another one of them is whole."""
    unnamed: int = 0
    """Parts that do not say which image they were about."""
    rejects: Path | None = None
    """Where those parts are now; None: nothing was moved."""
    backup: Path | None = None
    """The file as it was; None: it was not changed."""

    @property
    def is_sound(self) -> bool:
        """Nothing has to be done."""
        return self.lines == 0 and not self.header


class Examination:
    """One reading of a journal; `lines` are those of the repaired one."""

    def __init__(self, path: Path) -> None:
        self.damage = Damage(path)
        self._path = path
        self._codec = _codec(path)
        whole, rejected, names = bytearray(), bytearray(), list[str]()
        damaged = 0
        for number, is_sound, part in self._parts():
            if not is_sound and number != damaged:
                self.damage.lines += 1
                damaged = number
            if part is None:
                continue
            if not part.wrong:
                whole += digest(self._codec.scan(part.text + b"\n").key)
                self.damage.records += 1
                self.damage.saved += not is_sound
                continue
            self._note(number, part)
            named = image_of(part.text, self._codec)
            if named is None:
                self.damage.unnamed += 1
                continue
            rejected += digest(named[1])
            if len(names) < _MOST_NAMES:
                names.append(named[0])
        self._tell_lost(whole, rejected, names)
        self._check()

    def _note(self, number: int, part: Part) -> None:
        self.damage.rejected += 1
        if len(self.damage.examples) < _SHOWN:
            self.damage.examples.append((number, part))

    def _tell_lost(self, whole: bytearray, rejected: bytearray, names: list[str]) -> None:
        """Which of the images of rejected parts have no whole record."""
        lost, first = np.unique(rows_of(rejected), return_index=True)
        is_lost = ~np.isin(lost, rows_of(whole))
        self.damage.lost_count = int(np.count_nonzero(is_lost))
        self.damage.kept_count = len(is_lost) - self.damage.lost_count
        places = sorted(int(place) for place in first[is_lost] if place < len(names))
        self.damage.lost = [names[place] for place in places[:_SHOWN]]

    def _check(self) -> None:
        """Raise OutputError for a file that is no journal."""
        first = _first_line(self._path)
        is_torn = self.damage.lines <= 1 and self._codec.is_torn(first, first=True)
        if self.damage.records == 0 and not (self.damage.is_sound or is_torn):
            raise OutputError(
                f"{self._path} holds no record that this version of batchcap can read. "
                f"Line 1: {first[:_SHOWN_BYTES].decode('utf-8', 'replace').rstrip()}",
                "It was left as it is. Name a file that `batchcap run` has written.",
            )

    def lines(self, aside: BinaryIO) -> Iterator[bytes]:
        """The lines of the repaired journal; what is no record is appended to ``aside``, and is on the disk then."""
        if self._codec.header:
            yield self._codec.header
        for _, _, part in self._parts():
            if part is not None and part.wrong:
                aside.write(part.text + b"\n")
            elif part is not None:
                yield part.text + b"\n"
        aside.flush()
        os.fsync(aside.fileno())

    def _parts(self) -> Iterator[tuple[int, bool, Part | None]]:
        """The number of each line, whether it is sound, and its parts; None for a damaged line that holds nothing."""
        for number, line in _lines(self._path):
            if number == 1 and self._codec.header:
                self.damage.header = line != self._codec.header
                if line.removeprefix(BOM).rstrip(b"\r\n") + b"\n" == self._codec.header:
                    continue
            ended = line if line.endswith(b"\n") else line + b"\n"
            if not wrong_with(ended, self._codec):
                yield number, True, Part(ended[:-1], "")
                continue
            found: list[Part | None] = [*parts(line, self._codec)]
            for part in found or [None]:
                yield number, False, part


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines; one that is longer than any record comes in pieces, which are not cut inside a record."""
    number, rest = 1, b""
    with path.open("rb") as file:
        while line := rest + file.readline(LONGEST_LINE):
            rest = b""
            if len(line) >= LONGEST_LINE and not line.endswith(b"\n"):
                cut = max(line.rfind(Jsonl.start), line.rfind(b"\0") + 1)
                if len(line) - cut < LONGEST_LINE // 2:
                    line, rest = line[:cut], line[cut:]
            if line:
                yield number, line
            number += line.endswith(b"\n")


def _codec(path: Path) -> Codec:
    """The codec that the first line asks for, or the first line that can be read where that one is damaged."""
    for number, line in _lines(path):
        if number == 1:
            codec = codec_of(line.removeprefix(BOM).replace(b"\r\n", b"\n"), path)
            if codec.header == line.removeprefix(BOM).replace(b"\r\n", b"\n"):
                return codec
        for candidate in _candidates(line):
            if any(not part.wrong for part in parts(line, candidate)):
                return candidate
    return codec_of(_first_line(path), path)


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(LONGEST_LINE)


def _candidates(line: bytes) -> Iterator[Codec]:
    """Codecs that may read some of a line."""
    if Jsonl.start in line:
        yield Jsonl()
    more, left = divmod(line.count(b",") + 1 - len(Csv().columns), len(Csv(2).columns) - len(Csv().columns))
    if more >= 0 and (left == 0 or b'"' in line):
        yield from (Csv(count) for count in range(1, 2 + more))
