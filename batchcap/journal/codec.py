"""What every line format of a journal can do, and what the formats share: one record is one line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Final, Protocol, TypeAlias

import msgspec

from batchcap.errors import OutputError
from batchcap.options.output import Format
from batchcap.records import Failure, Key, Record, key_of

INT64: Final = 2**63
_Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-INT64, le=INT64 - 1)]

_LABEL: Final = re.compile(r"#[0-9a-f]{8}\Z")


def is_label(decoding: str) -> bool:
    """Whether the label of a record's decoding is whole: it ends with ``#`` and 8 hex digits."""
    return _LABEL.search(decoding) is not None


class Line(msgspec.Struct, frozen=True, gc=False):
    """What resuming needs of one line. It is less than a record, so that a million lines take seconds."""

    path: str
    model: str
    preprocess: str
    decoding: str
    member: str | None = None
    path_b64: str | None = None
    error: Failure | None = None
    bytes: _Int64 | None = None
    mtime_us: _Int64 | None = None
    sha256: str | None = None
    root: str | None = None

    @property
    def key(self) -> Key:
        return key_of(self.path, self.path_b64, self.member)


class Codec(Protocol):
    """Records to lines and back."""

    name: ClassVar[Format]
    start: ClassVar[bytes]
    """How every file of this format begins."""
    header: bytes
    """The first line, with its end; empty where the format has none."""

    def __init__(self, num_captions: int = 1) -> None:
        """For records with up to ``num_captions`` captions."""

    def encode(self, records: Sequence[Record]) -> bytes:
        """One line a record, each ended by LF.

        Raises:
            OutputError: a log_prob or score is not finite.
        """

    def decode(self, line: bytes) -> Record:
        """The record of one line, with or without its LF. Raises ValueError, saying what is wrong with the line."""

    def scan(self, line: bytes) -> Line:
        """What resuming needs of one line that ends with LF. Raises ValueError, saying what is wrong with the line."""

    def scan_all(self, block: bytes) -> list[Line]:
        """`scan` of each line of a block, in less time; each ends with LF.

        Raises ValueError for a line that is none, not saying which.
        """

    def with_root(self, line: bytes, root: str) -> bytes:
        """The same line with another root, which absolute paths in it become relative to.

        Nothing else changes, fields not known here too; numbers keep the value that a float has.
        """

    def explain_header(self, line: bytes) -> str:
        """What is wrong with a first line that is not `header`."""

    def captions_in_header(self, line: bytes) -> int:
        """For how many captions an image a first line is a header of this version; 0: for none."""

    def is_torn(self, line: bytes, first: bool) -> bool:
        """Whether an unusable last line is the beginning of a line of batchcap, so that cutting it loses nothing.

        Args:
            line: the last line, with or without LF (an editor may have added one).
            first: it is the only line, so that nothing else shows that batchcap wrote the file.
        """


def check_finite(records: Sequence[Record]) -> None:
    """Raise OutputError for a log_prob or score that is infinite or no number: no format can hold it."""
    for record in records:
        for value in _numbers(record):
            if not math.isfinite(value):
                raise OutputError(
                    f"{record.path}: the model gave it a log_prob or score of {value}, which no output can hold.",
                    "The model's numbers overflow on this image: use another precision, device or bundle.",
                )


def _numbers(record: Record) -> Iterator[float]:
    yield from (value for value in (record.log_prob, record.score) if value is not None)
    for caption in record.captions or ():
        yield from (caption.log_prob, caption.score)


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def replace_surrogates(text: str) -> str:
    """The text with U+FFFD for what UTF-8 cannot hold, such as parts of a file name in an error message."""
    return _SURROGATE.sub("\ufffd", text)


def without_surrogates(record: Record) -> Record:
    """The record with U+FFFD for every lone surrogate in its texts."""
    return msgspec.convert(_clean(msgspec.to_builtins(record)), Record)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, dict):
        return {name: _clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
