"""The line formats of a journal, JSONL and CSV: one record is one line, and a line read back is the same record.

Both round ``log_prob`` and ``score`` to 6 digits after the point, and write U+FFFD for a lone surrogate.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from decimal import MIN_EMIN, Context, Decimal
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias

import msgspec

from batchcap.errors import OutputError
from batchcap.records import Caption, Failure, Key, Record
from batchcap.roots import move

_INT64: Final = 2**63
_Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-_INT64, le=_INT64 - 1)]
_JSONL_START: Final = b'{"path":"'
_CSV_START: Final = b"path,member,path_b64,"
# What follows `root` in a record.
_AFTER_ROOT: Final = ("model", "preprocess", "decoding")
# Python's csv module reads no field of more than 131,072 characters, and an escaped one can be twice as long.
_LONGEST_MESSAGE: Final = 60_000


# The end of a record's path, and as much as there is of the name of the field behind it.
_SECOND_FIELD: Final = re.compile(rb'\{"path":"(?:[^"\\]|\\.)*"(?:,(?:"([a-z_0-9]*)("?))?)?', re.DOTALL)


def _begins_as_ours(text: bytes) -> bool:
    """Whether the beginning of a JSON line can be that of a record, by its second field: others begin with a path."""
    found = _SECOND_FIELD.match(text)
    if found is None or found[1] is None:  # it ends in the path or behind it
        return found is None or found.end() == len(text)
    name = found[1].decode()
    names = Record.__struct_fields__
    return name in names if found[2] else any(each.startswith(name) for each in names)


_LABEL: Final = re.compile(r"#[0-9a-f]{8}\Z")


def is_label(decoding: str) -> bool:
    """Whether the label of a record's decoding is whole: it ends with ``#`` and 8 hex digits."""
    return _LABEL.search(decoding) is not None


class Line(msgspec.Struct, frozen=True):
    """What resuming needs to know of one line: reading less is what makes a million lines a matter of seconds."""

    path: str
    model: str
    preprocess: str
    decoding: str
    member: str | None = None
    path_b64: str | None = None
    error: Failure | None = None
    bytes: _Int64 | None = None
    mtime_us: _Int64 | None = None
    root: str | None = None

    @property
    def key(self) -> Key:
        return (self.path if self.path_b64 is None else self.path_b64, self.member)


class Codec(Protocol):
    """Records to lines and back."""

    header: bytes
    """The first line, with its end; empty where the format has none."""

    def encode(self, records: Sequence[Record]) -> bytes:
        """One line a record, each ended by LF.

        Raises:
            OutputError: a log_prob or score is not finite.
        """

    def decode(self, line: bytes) -> Record:
        """The record of one line, with or without its LF. Raises ValueError, saying what is wrong with the line."""

    def scan(self, line: bytes) -> Line:
        """What resuming needs of one line that ends with LF. Raises ValueError, saying what is wrong with the line."""

    def with_root(self, line: bytes, root: str) -> bytes:
        """The same line with another root, which absolute paths in it become relative to.

        Nothing else changes, fields not known here too; numbers keep the value that a float has.
        """

    def explain_header(self, line: bytes) -> str:
        """What is wrong with a first line that is not `header`."""

    def is_torn(self, line: bytes, first: bool) -> bool:
        """Whether a last line that cannot be used is the beginning of a line of ours, so that cutting it loses nothing.

        Args:
            line: the last line, with or without LF (an editor may have added one).
            first: nothing stands before it, so that nothing else says that the file is ours.
        """


def make_codec(name: str, num_captions: int = 1) -> Codec:
    """The codec of ``jsonl`` or ``csv``; ``num_captions`` decides the columns of CSV."""
    return Csv(num_captions) if name == "csv" else Jsonl()


def guess_format(head: bytes) -> str | None:
    """``jsonl`` or ``csv`` if a file that begins so can be a journal, else None."""
    if head.startswith(_JSONL_START):
        return "jsonl"
    return "csv" if head.startswith(_CSV_START) else None


class Jsonl:
    """One JSON object a line; fields at their default are left out."""

    header = b""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._record = msgspec.json.Decoder(Record)
        self._line = msgspec.json.Decoder(Line)
        self._any = msgspec.json.Decoder(dict[str, Any])

    def encode(self, records: Sequence[Record]) -> bytes:
        rounded = [_round(record) for record in records]
        try:
            return self._encoder.encode_lines(rounded)
        except UnicodeEncodeError:
            return self._encoder.encode_lines([_without_surrogates(record) for record in rounded])

    def decode(self, line: bytes) -> Record:
        return self._record.decode(line)

    def scan(self, line: bytes) -> Line:
        decoded = self._line.decode(line)
        if b'"caption"' not in line and b'"error"' not in line:  # in a text the quotes would be escaped
            raise ValueError("it has neither caption nor error")
        return decoded

    def with_root(self, line: bytes, root: str) -> bytes:
        record = self._any.decode(line)
        record["path"], exact = move(record["path"], record.get("path_b64"), root)
        if exact is None:
            record.pop("path_b64", None)
        else:
            record["path_b64"] = exact
        if "root" in record:
            return self._encoder.encode(record | {"root": root}) + b"\n"
        parts = {"root": root} | {name: record.pop(name) for name in _AFTER_ROOT if name in record}
        return self._encoder.encode(record | parts) + b"\n"

    def explain_header(self, line: bytes) -> str:
        return f"JSONL has no header, and this is none: {line[:40]!r}"

    def is_torn(self, line: bytes, first: bool) -> bool:
        # After a power failure, a file system may show zeros where the last write should be.
        text = line.rstrip(b"\0\r\n")
        if not text:
            return not first
        if first and not text.startswith(_JSONL_START) and text != line:
            return False  # a few bytes and a line end: nobody's torn write, but perhaps somebody's file
        if not text.startswith(_JSONL_START[: len(text)]) or _JSONL_START in text[1:]:  # the second: a record joined on
            return False
        try:
            json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
        except ValueError:
            return _begins_as_ours(text)
        except RecursionError:
            return False
        return self._is_padded(line, text)

    def _is_padded(self, line: bytes, text: bytes) -> bool:
        """A whole JSON value is no torn record, but perhaps one with what a power failure left behind it."""
        try:
            self.scan(text)
        except ValueError:
            return False
        return line.endswith(b"\0")


class Csv:
    r"""One row a line under a fixed header; ``\``, CR and LF in a field are written ``\\``, ``\r`` and ``\n``.

    An empty field is an absent value, except that a row without ``error_stage`` has a caption, be it empty. With
    ``num_captions`` > 1 the first caption stands in ``caption`` and the others in ``caption_2``, ...; a rank is present
    where its ``log_prob`` is. ``p`` is exp(``log_prob``) with 6 digits, for people: reading a record back ignores it.
    An error message is cut after 60,000 characters.
    """

    def __init__(self, num_captions: int = 1) -> None:
        self.num_captions = num_captions
        caption = ("caption", "log_prob", "score", "p")
        ranks = [f"{name}_{rank}" for rank in range(2, num_captions + 1) for name in caption]
        self.columns: tuple[str, ...] = (
            *("path", "member", "path_b64", *caption),
            *("error_stage", "error_kind", "error_message"),
            *ranks,
            *("damaged", "width", "height", "bytes", "mtime_us", "root", "model", "preprocess", "decoding"),
        )
        self.header = ",".join(self.columns).encode() + b"\n"

    def encode(self, records: Sequence[Record]) -> bytes:
        rounded = [_round(record) for record in records]
        try:
            return self._rows(rounded)
        except UnicodeEncodeError:
            return self._rows(_without_surrogates(record) for record in rounded)

    def _rows(self, records: Iterable[Record]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self._row(record) for record in records)
        return text.getvalue().encode("utf-8")

    def _row(self, record: Record) -> list[str]:
        captions = record.captions or ()
        error = record.error
        if len(captions) > self.num_captions or (record.caption is None) == (error is None):
            raise ValueError(f"{record.path}: a record holds an error or 1 to {self.num_captions} captions")
        ranks: list[str] = []
        for rank in range(1, self.num_captions):
            ranks += _caption_fields(captions[rank] if rank < len(captions) else None)
        return [
            *(_escape(record.path), _escape(record.member), _escape(record.path_b64), _escape(record.caption)),
            *(_text(record.log_prob), _text(record.score), probability(record.log_prob)),
            *(("", "", "") if error is None else _error_fields(error)),
            *ranks,
            _escape((record.damaged or "")[:_LONGEST_MESSAGE]),
            *(_text(record.width), _text(record.height), _text(record.bytes), _text(record.mtime_us)),
            *(_escape(record.root), _escape(record.model), _escape(record.preprocess), _escape(record.decoding)),
        ]

    def decode(self, line: bytes) -> Record:
        fields = self._fields(line)
        path, member, path_b64, caption, log_prob, score = fields[:6]
        error = _error(fields)
        width, height, size, mtime_us = (_int(field) for field in fields[-8:-4])
        return Record(
            path=_unescape(path),
            member=_unescape(member) or None,
            path_b64=_unescape(path_b64) or None,
            caption=_unescape(caption) if error is None else None,
            log_prob=_float(log_prob),
            score=_float(score),
            error=error,
            captions=self._captions(fields) if error is None else None,
            damaged=_unescape(fields[-9]) or None,
            width=width,
            height=height,
            bytes=size,
            mtime_us=mtime_us,
            root=_unescape(fields[-4]) or None,
            model=_unescape(fields[-3]),
            preprocess=_unescape(fields[-2]),
            decoding=_unescape(fields[-1]),
        )

    def _captions(self, fields: list[str]) -> tuple[Caption, ...] | None:
        if self.num_captions == 1:
            return None
        ranks = [fields[3:6], *(fields[at : at + 3] for at in range(10, len(fields) - 9, 4))]
        found = (Caption(_unescape(text), float(log_prob), float(score)) for text, log_prob, score in ranks if log_prob)
        return tuple(found) or None

    def scan(self, line: bytes) -> Line:
        fields = self._fields(line)
        if not is_label(fields[-1]):  # a cut in the last column leaves all columns there
            raise ValueError(f"its last column is cut off: {fields[-1]!r}")
        return Line(
            path=_unescape(fields[0]),
            member=_unescape(fields[1]) or None,
            path_b64=_unescape(fields[2]) or None,
            error=_error(fields),
            bytes=_int(fields[-6]),
            mtime_us=_int(fields[-5]),
            root=_unescape(fields[-4]) or None,
            model=_unescape(fields[-3]),
            preprocess=_unescape(fields[-2]),
            decoding=_unescape(fields[-1]),
        )

    def _fields(self, line: bytes) -> list[str]:
        text = line.removesuffix(b"\n").decode("utf-8")
        if "\r" in text:
            raise ValueError("it holds a carriage return (was it saved with Windows line ends?)")
        try:
            fields = next(csv.reader([text], strict=True), []) if '"' in text else text.split(",")
        except csv.Error as error:
            raise ValueError(str(error)) from None
        if len(fields) != len(self.columns):
            raise ValueError(f"it has {len(fields)} columns instead of {len(self.columns)}")
        return fields

    def with_root(self, line: bytes, root: str) -> bytes:
        fields = self._fields(line)
        path, exact = move(_unescape(fields[0]), _unescape(fields[2]) or None, root)
        fields[0], fields[2], fields[-4] = _escape(path), _escape(exact), _escape(root)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(fields)
        return text.getvalue().encode("utf-8")

    def explain_header(self, line: bytes) -> str:
        if not line.startswith(_CSV_START):
            return "it is not the header of a CSV journal"
        if b",root," not in line:
            return (
                "it has no column root, so it does not say which folder its paths are relative to (an older version?)"
            )
        written = 1 + line.count(b",caption_")
        if written != self.num_captions:
            return f"it has columns for --num-captions {written}, and this run has {self.num_captions}"
        return "its columns are not those of this version"

    def is_torn(self, line: bytes, first: bool) -> bool:
        if first:
            return self.header.startswith(line)
        if not line.endswith(b"\n") or not line.strip(b"\0\n"):
            return True
        try:
            text = line[:-1].decode("utf-8", "replace")
            fields = next(csv.reader([text], strict=True), [])
            return len(fields) < len(self.columns) or (len(fields) == len(self.columns) and not is_label(fields[-1]))
        except csv.Error as error:
            return "unexpected end" in str(error)


_STAGES: Final[dict[str, Literal["read", "decode"]]] = {"read": "read", "decode": "decode"}
_ESCAPES: Final = {"\\": "\\\\", "\r": "\\r", "\n": "\\n"}
# A spreadsheet runs a cell that begins so as a formula, also one that came out of a file name or a caption.
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_UNESCAPES: Final = {escape: char for char, escape in _ESCAPES.items()} | {"\\" + char: char for char in _FORMULAS}
_SPECIAL: Final = re.compile(r"[\\\r\n]")
_ESCAPED: Final = re.compile(r"\\.?", re.DOTALL)


def _escape(text: str | None) -> str:
    if text is None:
        return ""
    escaped = _SPECIAL.sub(lambda match: _ESCAPES[match.group()], text)
    return "\\" + escaped if escaped.startswith(_FORMULAS) else escaped


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    try:
        return _ESCAPED.sub(lambda match: _UNESCAPES[match.group()], field)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is no escape") from None


def _text(value: float | None) -> str:
    return "" if value is None else repr(value)


def probability(log_prob: float | None, digits: int = 6) -> str:
    """p = exp(log_prob) with ``digits`` significant digits, however small (a float of it would be 0); None is empty."""
    return "" if log_prob is None else format(Decimal(log_prob).exp(Context(prec=digits, Emin=MIN_EMIN)), "g")


def _float(field: str) -> float | None:
    return float(field) if field else None


def _int(field: str) -> int | None:
    if not field:
        return None
    try:
        value = int(field)
    except ValueError:
        raise ValueError(f"{field} is no whole number (a spreadsheet program rounds long ones)") from None
    if not -_INT64 <= value < _INT64:
        raise ValueError(f"{field} is out of range")
    return value


def _caption_fields(caption: Caption | None) -> tuple[str, str, str, str]:
    if caption is None:
        return "", "", "", ""
    return _escape(caption.caption), repr(caption.log_prob), repr(caption.score), probability(caption.log_prob)


def _error_fields(error: Failure) -> tuple[str, str, str]:
    return error.stage, _escape(error.kind), _escape(error.message[:_LONGEST_MESSAGE])


def _error(fields: list[str]) -> Failure | None:
    stage, kind, message = fields[7:10]
    if not stage:
        return None
    if stage not in _STAGES:
        raise ValueError(f"{stage!r} is no stage of an error")
    return Failure(_STAGES[stage], _unescape(kind), _unescape(message))


def _six(value: float, record: Record) -> float:
    if not math.isfinite(value):
        raise OutputError(
            f"{record.path}: the model gave it a log_prob or score of {value}, which no output can hold.",
            "The model's numbers overflow on this image: use another precision, device or bundle.",
        )
    return round_score(value, 6)


def round_score(value: float, digits: int) -> float:
    """So many digits after the point, and more for a small number: a large penalty makes scores of 1e-12."""
    small = value != 0 and abs(value) < 1e-3
    return round(value, digits + (-math.floor(math.log10(abs(value))) if small else 0))


def _round(record: Record) -> Record:
    """The record with 6 digits after the point, far below the differences between devices (1e-5)."""
    if record.log_prob is None and record.score is None and record.captions is None:
        return record
    captions = record.captions
    if captions is not None:
        captions = tuple(Caption(c.caption, _six(c.log_prob, record), _six(c.score, record)) for c in captions)
    return msgspec.structs.replace(
        record,
        log_prob=None if record.log_prob is None else _six(record.log_prob, record),
        score=None if record.score is None else _six(record.score, record),
        captions=captions,
    )


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def replace_surrogates(text: str) -> str:
    """The text with U+FFFD for what UTF-8 cannot hold, such as parts of a file name in an error message."""
    return _SURROGATE.sub("\ufffd", text)


def _without_surrogates(record: Record) -> Record:
    return msgspec.convert(_clean(msgspec.to_builtins(record)), Record)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, dict):
        return {name: _clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
