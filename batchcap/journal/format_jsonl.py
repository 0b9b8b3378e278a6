"""JSON lines: a record is one JSON object on one line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from batchcap.journal.codec import Line, check_finite, without_surrogates
from batchcap.options.output import Format
from batchcap.records import Record
from batchcap.roots import move

# What follows `root` in a record.
_AFTER_ROOT: Final = ("model", "preprocess", "decoding")
_EMPTY: Final = "it has neither caption nor error"
# The end of a record's path, and as much as there is of the name of the next field.
_SECOND_FIELD: Final = re.compile(rb'\{"path":"(?:[^"\\]|\\.)*"(?:,(?:"([a-z_0-9]*)("?))?)?', re.DOTALL)


class _CaptionLine(Line, frozen=True, gc=False):
    caption: str | None = None


class Jsonl:
    """One JSON object a line; fields at their default are left out."""

    name: ClassVar[Format] = "jsonl"
    start: ClassVar[bytes] = b'{"path":"'
    header = b""

    def __init__(self, num_captions: int = 1) -> None:
        del num_captions  # a line holds any number
        self._encoder = msgspec.json.Encoder()
        self._record = msgspec.json.Decoder(Record)
        self._line = msgspec.json.Decoder(_CaptionLine)
        self._any = msgspec.json.Decoder(dict[str, Any])

    def encode(self, records: Sequence[Record]) -> bytes:
        check_finite(records)
        try:
            return self._encoder.encode_lines(records)
        except UnicodeEncodeError:
            return self._encoder.encode_lines([without_surrogates(record) for record in records])

    def decode(self, line: bytes) -> Record:
        record = self._record.decode(line)
        if record.caption is None and record.error is None:
            raise ValueError(_EMPTY)
        return record

    def scan(self, line: bytes) -> Line:
        decoded = self._line.decode(line)
        if decoded.caption is None and decoded.error is None:
            raise ValueError(_EMPTY)
        return decoded

    def scan_all(self, block: bytes) -> list[Line]:
        decode = self._line.decode
        lines = [decode(line) for line in block[:-1].split(b"\n")]
        if any(line.caption is None and line.error is None for line in lines):
            raise ValueError(_EMPTY)
        return list[Line](lines)

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

    def captions_in_header(self, line: bytes) -> int:
        del line
        return 0

    def is_torn(self, line: bytes, first: bool) -> bool:
        # After a power failure, a file system may show zeros where the last write should be.
        text = line.rstrip(b"\0\r\n")
        if not text:
            return not first
        if first and not text.startswith(self.start) and text != line:
            return False  # a few bytes and a line end: batchcap never writes that, but it may be a file of the user
        if not text.startswith(self.start[: len(text)]) or self.start in text[1:]:  # the second: a record joined on
            return False
        try:
            json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
        except ValueError:
            return _begins_as_ours(text)
        except RecursionError:
            return False
        return self._is_padded(line, text)

    def _is_padded(self, line: bytes, text: bytes) -> bool:
        """Whether NUL bytes of a power failure follow a whole record. Without them a whole JSON value is not torn."""
        try:
            self.scan(text)
        except ValueError:
            return False
        return line.endswith(b"\0")


def _begins_as_ours(text: bytes) -> bool:
    """Whether the beginning of a JSON line can be that of a record, by its second field: others begin with a path."""
    found = _SECOND_FIELD.match(text)
    if found is None or found[1] is None:  # it ends in the path or after it
        return found is None or found.end() == len(text)
    name = found[1].decode()
    names = Record.__struct_fields__
    return name in names if found[2] else any(each.startswith(name) for each in names)
