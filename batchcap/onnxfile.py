"""What must be known of an ONNX file before a runtime opens it: its protobuf bytes, read without the onnx package."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Which fields of which message (onnx.proto) lead to a tensor: field number -> message.
_ROADS: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def external_files(path: Path) -> set[str]:
    """The files beside ``path`` that its tensors say their data lies in, as they are written in the model.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no protobuf message.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = set()
        pending = [("model", 0, len(data))]
        while pending:
            message, start, end = pending.pop()
            if message == "entry":
                fields = {number: data[first:last] for number, first, last in _fields(data, start, end)}
                if fields.get(1) == b"location":
                    found.add(fields.get(2, b"").decode("utf-8", "replace"))
                continue
            roads = _ROADS[message]
            pending += [(roads[n], first, last) for n, first, last in _fields(data, start, end) if n in roads]
        return found


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of each length-delimited field of one message (protobuf.dev/programming-guides/encoding)."""
    at = start
    while at < end:
        key, at = _varint(data, at, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _BYTES:
            size, at = _varint(data, at, end)
            if size > end - at:
                raise ValueError(f"field {number} at byte {at} is longer than what holds it")
            yield number, at, at + size
            at += size
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at - 1} starts no protobuf field")
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
