"""What must be known of an ONNX file before a runtime opens it: its protobuf bytes, read without the onnx package."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Which fields of which message (onnx.proto) lead to a tensor or an operator: field number -> message.
_CHILDREN: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
# Texts that count: field numbers of (domain, name) of a node and of a function, and of (key, value) of an entry.
_TEXTS: Final[dict[str, tuple[int, int]]] = {"node": (7, 4), "function": (10, 1), "entry": (1, 2)}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Protobuf itself refuses what is nested deeper.
_MAX_DEPTH: Final = 100
# A big network has some ten thousand; reading so many takes about two seconds.
_MAX_FIELDS: Final = 1_000_000
_MAX_TEXT: Final = 65_536
_MAX_TAG: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class References:
    """What a model file needs that does not lie in it."""

    files: frozenset[str]
    """The files that its tensors say their data lies in, as they are written there."""
    operators: frozenset[tuple[str, str]]
    """(domain, name) of every operator that it uses and does not define; the standard's own domain is empty."""
    nodes: frozenset[str]
    """The name of every operator that it uses, in whatever domain, and whether it defines one of that name or not."""


def references(path: Path) -> References:
    """Read what a model file refers to, wherever in it a tensor or a node can stand.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no protobuf message, or one that no exporter writes (too deep, too many parts).
    """
    found: dict[str, set[tuple[str, str]]] = {message: set() for message in _TEXTS}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pending = [("model", 1, 0, len(data))]
        seen = 0
        while pending:
            message, depth, start, end = pending.pop()
            if depth > _MAX_DEPTH:
                raise ValueError(f"it is nested deeper than {_MAX_DEPTH} messages")
            children, texts = _CHILDREN.get(message, {}), dict.fromkeys(_TEXTS.get(message, ()), "")
            for number, first, last in _fields(data, start, end):
                seen += 1
                if seen > _MAX_FIELDS:
                    raise ValueError(f"it has more than {_MAX_FIELDS:,} parts")
                if number in children:
                    pending.append((children[number], depth + 1, first, last))
                elif number in texts:
                    texts[number] = _text(data, first, last)
            if message in found:
                one, two = texts.values()
                found[message].add((one, two))
    files = frozenset(file for key, file in found["entry"] if key == "location")
    nodes = frozenset(name for _, name in found["node"])
    return References(files, frozenset(found["node"] - found["function"]), nodes)


def _text(data: mmap.mmap, start: int, end: int) -> str:
    if end - start > _MAX_TEXT:
        raise ValueError(f"it has a name of {end - start:,} bytes")
    return data[start:end].decode("utf-8")  # its error is a ValueError too


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of each field of one message (protobuf.dev/programming-guides/encoding).

    Fields that are not length-delimited are given too, empty and with the number 0, which no field has: they count.
    """
    at = start
    while at < end:
        key, at = _varint(data, at, end)
        number, kind = key >> 3, key & 7
        # onnxruntime 1.31 cuts a longer tag to 32 bits: it would find a field here that was not looked into.
        if key > _MAX_TAG or number == 0:
            raise ValueError(f"byte {at - 1} ends no protobuf tag")
        if kind == _BYTES:
            size, at = _varint(data, at, end)
            if size > end - at:
                raise ValueError(f"field {number} at byte {at} is longer than what holds it")
            yield number, at, at + size
            at += size
            continue
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at - 1} starts no protobuf field")
        yield 0, at, at
    if at != end:
        raise ValueError(f"a field runs past byte {end}")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """The number at ``at`` and where the next byte is: seven bits a byte, lowest first."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"byte {at} ends no number")
