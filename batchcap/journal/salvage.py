"""What can be saved of a damaged line: whole records that were joined to others, or stand among zeros."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from batchcap.journal.codec import Codec
from batchcap.journal.format_csv import names_in
from batchcap.journal.recovery import BOM, TWO_HEADERS
from batchcap.records import Key, key_of

# No whole line holds one of these bytes; an end of line with a carriage return, and a power failure, leave them.
_STRAY: Final = re.compile(rb"[\0\r\n]+")
_LABEL_END: Final = re.compile(rb"#[0-9a-f]{8}")
_NAMES: Final = [re.compile(rf'"{name}":("(?:[^"\\]|\\.)*")'.encode()) for name in ("path", "member", "path_b64")]


class Part(NamedTuple):
    """A part of a damaged line."""

    text: bytes
    """Without a line end."""
    wrong: str
    """Why it is no record; empty: it is a whole one."""


def wrong_with(line: bytes, codec: Codec) -> str:
    """Why a line, with its LF, is no record; empty where it is one."""
    if line == codec.header:
        return TWO_HEADERS
    try:
        codec.scan(line)
        codec.decode(line)
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def parts(line: bytes, codec: Codec) -> Iterator[Part]:
    """A damaged line, taken apart: nothing but zeros, line ends and a byte-order mark is left out."""
    for text in _STRAY.split(line.removeprefix(BOM)):
        for each in (_rows(text, codec) if codec.header else _objects(text)) if text else ():
            if each.strip():
                yield Part(each, wrong_with(each + b"\n", codec))


def _objects(text: bytes) -> Iterator[bytes]:
    """Parts of a JSONL line. Inside a text the quotes that begin a record would be escaped."""
    begins = {0, len(text), *(found.start() for found in re.finditer(rb'\{"path":"', text))}
    for begin, end in pairwise(sorted(begins)):
        part = text[begin:end]
        whole = _object_end(part)
        yield part[:whole]
        yield part[whole:]


def _object_end(text: bytes) -> int:
    """Where the first JSON value in a text ends; the whole text where there is none."""
    try:
        decoded = text.decode("utf-8", "surrogateescape")
        _, end = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError):
        return len(text)
    return len(decoded[:end].encode("utf-8", "surrogateescape"))


def _rows(text: bytes, codec: Codec) -> Iterator[bytes]:
    """Parts of a CSV line. A record ends with its label of the decoding, so another one may follow it there."""
    columns = codec.header.count(b",") + 1
    header = codec.header.removesuffix(b"\n")
    begin = len(header) if text.startswith(header) else 0
    yield text[:begin]
    for found in _LABEL_END.finditer(text, begin):
        part = text[begin : found.end()]
        if len(_cells(part)) >= columns:
            yield part
            begin = found.end()
    yield text[begin:]


def _cells(text: bytes) -> list[str]:
    """The fields of a CSV line, of a torn one too; none where a quote does not end."""
    try:
        return next(csv.reader([text.decode("utf-8", "replace")], strict=True), [])
    except csv.Error:
        return []


def image_of(text: bytes, codec: Codec) -> tuple[str, Key] | None:
    """Path and key of the image that a damaged line was about, where they can be told."""
    try:
        path, member, path_b64 = names_in(text) if codec.header else _names_in_jsonl(text)
    except (ValueError, csv.Error):
        return None
    return (path, key_of(path, path_b64 or None, member or None)) if path else None


def _names_in_jsonl(text: bytes) -> tuple[str, str, str]:
    found = (pattern.search(text) for pattern in _NAMES)
    path, member, path_b64 = (str(json.loads(match[1])) if match else "" for match in found)
    return path, member, path_b64
