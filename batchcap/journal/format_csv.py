"""CSV: a record is one row under a fixed header, and no field holds a line end."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, Literal

from batchcap.journal.codec import INT64, Line, check_finite, is_label, without_surrogates
from batchcap.journal.scores import probability
from batchcap.options.output import Format
from batchcap.records import Caption, Failure, Record
from batchcap.roots import move

# Python's csv module reads no field of more than 131,072 characters, and an escaped one can be twice as long.
_LONGEST_MESSAGE: Final = 60_000
_STAGES: Final[dict[str, Literal["read", "decode"]]] = {"read": "read", "decode": "decode"}
_ESCAPES: Final = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", "\0": "\\0"}
FORMULAS: Final = ("=", "+", "-", "@", "\t", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A spreadsheet program runs a cell that begins so as a formula, also one that came out of a file name or a caption;
the last four are the same signs in full width, which some make plain."""
_UNESCAPES: Final = {escape: char for char, escape in _ESCAPES.items()} | {"\\" + char: char for char in FORMULAS}
_SPECIAL: Final = re.compile(r"[\\\r\n\0]")
_ESCAPED: Final = re.compile(r"\\.?", re.DOTALL)


class Csv:
    r"""One row a line under a fixed header; ``\``, CR, LF and NUL in a field are ``\\``, ``\r``, ``\n`` and ``\0``.

    An empty field is an absent value, except that a row without ``error_stage`` has a caption, be it empty. With
    ``num_captions`` > 1 the first caption stands in ``caption`` and the others in ``caption_2``, ...; a rank is present
    where its ``log_prob`` is. ``p`` is exp(``log_prob``) with 6 digits, for people: reading a record back ignores it.
    An error message is cut after 60,000 characters.
    """

    name: ClassVar[Format] = "csv"
    start: ClassVar[bytes] = b"path,member,path_b64,"

    def __init__(self, num_captions: int = 1) -> None:
        self.num_captions = num_captions
        caption = ("caption", "log_prob", "score", "p")
        ranks = [f"{name}_{rank}" for rank in range(2, num_captions + 1) for name in caption]
        self.columns: tuple[str, ...] = (
            *("path", "member", "path_b64", *caption),
            *("error_stage", "error_kind", "error_message"),
            *ranks,
            *("damaged", "width", "height", "bytes", "mtime_us", "sha256"),
            *("root", "model", "preprocess", "decoding"),
        )
        self.header = ",".join(self.columns).encode() + b"\n"

    def encode(self, records: Sequence[Record]) -> bytes:
        check_finite(records)
        try:
            return self._rows(records)
        except UnicodeEncodeError:
            return self._rows(without_surrogates(record) for record in records)

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
            _escape(record.sha256),
            *(_escape(record.root), _escape(record.model), _escape(record.preprocess), _escape(record.decoding)),
        ]

    def decode(self, line: bytes) -> Record:
        fields = [_unescape(field) for field in self._whole_fields(line)]
        path, member, path_b64, caption, log_prob, score = fields[:6]
        error = _error(fields)
        width, height, size, mtime_us = (_int(field) for field in fields[-9:-5])
        return Record(
            path=path,
            member=member or None,
            path_b64=path_b64 or None,
            caption=caption if error is None else None,
            log_prob=_float(log_prob),
            score=_float(score),
            error=error,
            captions=self._captions(fields) if error is None else None,
            damaged=fields[-10] or None,
            width=width,
            height=height,
            bytes=size,
            mtime_us=mtime_us,
            sha256=fields[-5] or None,
            root=fields[-4] or None,
            model=fields[-3],
            preprocess=fields[-2],
            decoding=fields[-1],
        )

    def _captions(self, fields: list[str]) -> tuple[Caption, ...] | None:
        if self.num_captions == 1:
            return None
        ranks = [fields[3:6], *(fields[at : at + 3] for at in range(10, len(fields) - 10, 4))]
        found = (Caption(text, float(log_prob), float(score)) for text, log_prob, score in ranks if log_prob)
        return tuple(found) or None

    def scan(self, line: bytes) -> Line:
        return _line(list(map(_unescape, self._whole_fields(line))))

    def scan_all(self, block: bytes) -> list[Line]:
        text = block[:-1].decode("utf-8")
        if "\r" in text or "\0" in text:
            raise ValueError("there is a carriage return, or a zero")
        rows = [_split(row) if '"' in row else row.split(",") for row in text.split("\n")]
        if {*map(len, rows)} != {len(self.columns)} or not all(map(is_label, {fields[-1] for fields in rows})):
            raise ValueError("a row is not whole")
        if "\\" in text:
            return [_line([_unescape(field) for field in fields]) for fields in rows]
        return list(map(_line, rows))

    def _whole_fields(self, line: bytes) -> list[str]:
        fields = self._fields(line)
        if not is_label(fields[-1]):  # a cut in the last column leaves all columns there
            raise ValueError(f"its last column is cut off: {fields[-1]!r}")
        return fields

    def _fields(self, line: bytes) -> list[str]:
        text = line.removesuffix(b"\n").decode("utf-8")
        if "\r" in text:
            raise ValueError("it holds a carriage return (was it saved with Windows line ends?)")
        if "\0" in text:
            raise ValueError("it holds zeros (did the power fail?)")
        fields = _split(text) if '"' in text else text.split(",")
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
        if not line.startswith(self.start):
            return "it is not the header of a CSV journal"
        if b",root," not in line:
            return (
                "it has no column root, so it does not say which folder its paths are relative to (an older version?)"
            )
        written = self.captions_in_header(line)
        if written:
            return f"it has columns for --num-captions {written}, and this run has {self.num_captions}"
        return "its columns are not those of this version"

    def captions_in_header(self, line: bytes) -> int:
        written = 1 + line.count(b",caption_")
        return written if line == Csv(written).header else 0

    def is_torn(self, line: bytes, first: bool) -> bool:
        if first:
            return self.header.startswith(line)
        if not line.endswith(b"\n") or b"\0" in line or line == b"\n":
            return True
        try:
            text = line[:-1].decode("utf-8", "replace")
            fields = next(csv.reader([text], strict=True), [])
            return len(fields) < len(self.columns) or (len(fields) == len(self.columns) and not is_label(fields[-1]))
        except csv.Error as error:
            return "unexpected end" in str(error)


def names_in(line: bytes) -> tuple[str, str, str]:
    """``path``, ``member`` and ``path_b64`` of a line, which may be torn behind them.

    Raises ValueError where a line has no such beginning.
    """
    fields = next(csv.reader([line.decode("utf-8", "replace")]), [])
    if len(fields) < 4:
        raise ValueError("its first columns are not whole")
    path, member, path_b64 = map(_unescape, fields[:3])
    if member and not path.endswith(member):
        raise ValueError("its first columns are none of a record")
    return path, member, path_b64


def _split(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from None


def _line(fields: list[str]) -> Line:
    """Of fields that are read already."""
    path, member, path_b64 = fields[:3]
    size, mtime_us, sha256, root, model, preprocess, decoding = fields[-7:]
    return Line(
        path,
        model,
        preprocess,
        decoding,
        member or None,
        path_b64 or None,
        _error(fields) if fields[7] else None,
        _int(size),
        _int(mtime_us),
        sha256 or None,
        root or None,
    )


def _escape(text: str | None) -> str:
    if text is None:
        return ""
    escaped = _SPECIAL.sub(lambda match: _ESCAPES[match.group()], text)
    return "\\" + escaped if escaped.startswith(FORMULAS) else escaped


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    try:
        return _ESCAPED.sub(lambda match: _UNESCAPES[match.group()], field)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is no escape") from None


def _text(value: float | None) -> str:
    return "" if value is None else repr(value)


def _float(field: str) -> float | None:
    return float(field) if field else None


def _int(field: str) -> int | None:
    if not field:
        return None
    try:
        value = int(field)
    except ValueError:
        raise ValueError(f"{field} is no whole number (a spreadsheet program rounds long ones)") from None
    if not -INT64 <= value < INT64:
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
    return Failure(_STAGES[stage], kind, message)
