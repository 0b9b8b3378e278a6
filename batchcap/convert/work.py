"""One conversion under way: the journal, the options, and the counts of what became of the records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeAlias, TypeVar

from batchcap.convert.places import LEFT_OUT
from batchcap.journal.reader import JournalReader
from batchcap.options.convert import ConvertOptions
from batchcap.records import Record
from batchcap.reporting import Report, no_report

_SHOWN: Final = 3
_REPORT_EVERY: Final = 1000
_COUNTED_BYTES: Final = 1 << 20
_Thing = TypeVar("_Thing")


@dataclass(slots=True)
class Reason:
    """Why some captions are not in the target."""

    count: int = 0
    examples: list[str] = field(default_factory=list)
    """Paths of the first records or files."""

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(name)


@dataclass(slots=True)
class Tally:
    """What became of the last records of a journal."""

    written: int = 0
    """Captions that are new in the target, or changed."""
    unchanged: int = 0
    """Captions that the target has already."""
    failures: int = 0
    """Records without a caption."""
    left_out: dict[str, Reason] = field(default_factory=dict)
    """Captions that have no place in the target as it is defined; no error."""
    refused: dict[str, Reason] = field(default_factory=dict)
    """Captions that could not be written, or not without ``--overwrite``; the exit code is 3."""
    notes: list[str] = field(default_factory=list)
    """Further lines for a person."""

    def leave_out(self, reason: str, name: str) -> None:
        """Count a caption that has no place in the target."""
        self.left_out.setdefault(reason, Reason()).add(name)

    def refuse(self, reason: str, name: str) -> None:
        """Count a caption that could not be written."""
        self.refused.setdefault(reason, Reason()).add(name)

    def set_aside(self, reason: str, name: str) -> None:
        """Count a caption that is not written: it is left out where ``reason`` is no error, else refused."""
        (self.leave_out if reason in LEFT_OUT else self.refuse)(reason, name)

    def count(self, records: Iterable[Record]) -> None:
        """Count records that are written, failed ones among them."""
        for record in records:
            if record.caption is None:
                self.failures += 1
            else:
                self.written += 1

    def settle(self, changed: bool) -> None:
        """At the end of a target of one file: if that holds what it held before, no caption of it is new."""
        if not changed:
            self.unchanged, self.written = self.unchanged + self.written, 0

    @property
    def exit_code(self) -> int:
        return 3 if self.refused else 0


class Work:
    """What a target gets.

    Args:
        options: of the command.
        report: gets the progress.
        say: gets lines that a person should see before the end.
    """

    def __init__(
        self, options: ConvertOptions, report: Report = no_report, say: Callable[[str], object] = no_report
    ) -> None:
        self.options = options
        self.reader = JournalReader(options.journal)
        self.tally = Tally()
        self.say = say
        self._report = report
        self._lines: int | None = None

    @property
    def output(self) -> Path:
        return self.options.output

    def records(self, what: str = "converting") -> Iterator[Record]:
        """The last record of each key, in file order; a pass over the journal as it was when the work began."""
        return self.reported(self.reader.last_records(), what)

    def captioned(self, what: str = "converting") -> Iterator[Record]:
        """Those of `records` that have a caption; the others are counted as failures. For the pass that writes."""
        for record in self.records(what):
            if record.caption is None:
                self.tally.failures += 1
            else:
                yield record

    def all_records(self, what: str) -> Iterator[Record]:
        """Every record, superseded ones too."""
        return self.reported(self.reader.records(), what)

    def reported(self, things: Iterator[_Thing], what: str) -> Iterator[_Thing]:
        """The same records or lines; the report gets how many there were."""
        for number, thing in enumerate(things):
            if number % _REPORT_EVERY == 0:
                self._report(what, number, max(self.lines, number + 1))
            yield thing

    @property
    def lines(self) -> int:
        """Lines of the journal: no less than its records."""
        if self._lines is None:
            left, self._lines = self.reader.size, 1
            with self.options.journal.open("rb") as file:
                while left > 0 and (block := file.read(min(left, _COUNTED_BYTES))):
                    left -= len(block)
                    self._lines += block.count(b"\n")
        return self._lines


Convert: TypeAlias = Callable[[Work], None]


class Target(Protocol):
    """A module of this room, ``target_NAME.py``, that writes the captions of a journal into one kind of place."""

    def convert(self, work: Work) -> None:
        """Write all captions, and count in ``work.tally`` what became of them.

        Raises:
            OutputError: it cannot go on. Files that were written are whole.
            MissingExtraError: a library that it needs is not installed.
        """
