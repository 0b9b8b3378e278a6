"""The files of a bundle, checked before anything reads what is in them: names, sizes, checksums, references of graphs.

A bundle may come from anyone. Every byte that is used is listed with its sum in ``bundle.json``; nothing outside the
folder is opened by a name that stands in a file. A listed file may be a link, as package managers and caches lay them:
it must lead to a plain file with the listed sum. `write_manifest` takes no links.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Final

import msgspec

from batchcap.bundle import onnx_scan
from batchcap.errors import BundleError

_MIB: Final = 1024 * 1024
# By the name's ending. Protobuf ends at 2 GiB; bigger weights lie in files beside the graph, which are not limited.
_MAX_BYTES: Final = {".onnx": 2048 * _MIB, ".txt": 64 * _MIB, ".md": 16 * _MIB, ".json": 16 * _MIB}
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]*[A-Za-z0-9_+-])?")
# Windows opens a device by these names, whatever ending follows.
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
# The standard's operators, its classical machine learning, and what every onnxruntime has.
_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# Loops: numbers in the file say how often they run. A hostile file could make one run for ever, and Python's signal
# handlers wait for it. An `If` could not, but the contract has none either.
LOOPS: Final = frozenset(
    {"Loop", "Scan", "If", "SequenceMap", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"}
)
_AGAIN: Final = "Copy the bundle again, or export the model again."


class LoopError(BundleError):
    """A graph holds an operator that could run for ever."""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a file of the bundle must be."""

    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


def entry_of(path: Path) -> FileEntry:
    """Size and sum of a file as it is."""
    return FileEntry(bytes=path.stat().st_size, sha256=_sha256(path))


def read_small(path: Path, limit: int) -> bytes:
    """All bytes of a file that has at most ``limit``: a larger one is not read.

    Raises:
        OSError: it cannot be read.
        BundleError: it is larger, or no plain file.
    """
    size = _size(path)
    if size > limit:
        raise BundleError(f"{path}: has {size:,} bytes, more than the {limit:,} that are allowed.", "Do not use it.")
    with path.open("rb") as file:
        return file.read(limit)


def name_problem(names: Collection[str]) -> str:
    """What is wrong with the names of a bundle's files; empty where each means one file in the folder, everywhere."""
    seen = {"bundle.json": "bundle.json"}
    for name in names:
        if not _NAME.fullmatch(name) or _DEVICE.fullmatch(name) or name == "bundle.json":
            return f"{name!r} is no plain file name"
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            return f"{name} and {other} are one file on some computers"
    return ""


def verify_file(path: Path, entry: FileEntry) -> None:
    """Check that a file is what the manifest says; its size is looked at before its bytes are.

    Raises:
        BundleError: it is missing, altered, no plain file, or absurdly large.
    """
    limit = _MAX_BYTES.get(path.suffix)
    if limit is not None and entry.bytes > limit:
        raise BundleError(
            f"{path}: has {entry.bytes:,} bytes by the manifest, more than the {limit:,} that are allowed.",
            "Do not use it.",
        )
    try:
        size = _size(path)
        same = size == entry.bytes and _sha256(path) == entry.sha256
    except FileNotFoundError:
        raise BundleError(f"{path}: is missing.", _AGAIN) from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}.") from None
    if not same:
        how = f"{size} bytes instead of {entry.bytes}" if size != entry.bytes else "its SHA-256 differs"
        raise BundleError(f"{path}: was altered since the bundle was made ({how}).", _AGAIN)


def verify_references(path: Path, names: Collection[str]) -> None:
    """Check that a graph needs nothing but the files ``names`` and the operators that onnxruntime has, and has no loop.

    Weights may lie outside an ONNX file; a path that leaves the folder would open any file of this computer.

    Raises:
        LoopError: it holds a loop.
        BundleError: it needs more, or is no ONNX file.
    """
    try:
        found = onnx_scan.references(path)
    except ValueError as error:
        raise BundleError(f"{path}: is no ONNX file ({error}).", "Export the model again.") from None
    for name in sorted(found.files - set(names)):
        raise BundleError(f"{path}: takes weights from {name!r}, which is no file of the bundle.", "Do not use it.")
    for domain, operator in sorted(found.operators):
        if domain not in _DOMAINS:
            raise BundleError(
                f"{path}: uses the operator {operator!r} of the domain {domain!r}, which onnxruntime does not have.",
                "Export the model again, with standard operators only.",
            )
    loops = sorted(found.nodes & LOOPS)
    if loops:
        raise LoopError(
            f"{path} holds {', '.join(loops)}: a graph of a bundle has no loops, since one can run for ever.",
            "Export the model again: a recurrent layer is called by its cell, one step at a time.",
        )


def _size(path: Path) -> int:
    """Bytes of a plain file; anything else (a pipe, a device) could keep its reader waiting for ever."""
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise BundleError(f"{path}: is no plain file.", _AGAIN)
    return info.st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
