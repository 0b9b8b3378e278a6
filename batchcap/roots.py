"""Which folder the paths of an output are relative to: one absolute folder, written as ``root`` into every record."""

# Paths as text: a Path object for each of 50 million records would be the slowest part of a run.
# ruff: noqa: PTH117, PTH118, PTH121
from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

_URI: Final = "file://"


@dataclass(frozen=True, slots=True)
class Root:
    """The folder that the paths of a run are relative to."""

    folder: str
    """Absolute, as the operating system spells it."""
    inputs: tuple[str, ...]
    """The absolute files and folders that the run captions."""

    @property
    def text(self) -> str:
        """As records have it."""
        return root_text(self.folder)

    def names_alike(self, other: str) -> bool:
        """Whether all inputs have the same paths under another root: absolute ones, as they lie in neither."""
        roots = _spellings(self.folder) | _spellings(root_folder(other))
        files = set().union(*map(_spellings, self.inputs))
        return not any(is_within(file, root) or is_within(root, file) for file in files for root in roots)


def _spellings(path: str) -> set[str]:
    """A path as it was given, and without symbolic links."""
    return {path, os.path.realpath(path)}


def root_text(folder: str) -> str:
    """The ``root`` of a record for an absolute folder: the folder, or a URI of its bytes where they are not UTF-8."""
    try:
        folder.encode()
    except UnicodeEncodeError:
        return _URI + quote_from_bytes(os.fsencode(folder))
    return folder


def root_folder(root: str) -> str:
    """The folder of a record's ``root``, as the operating system spells it (surrogate-escaped)."""
    if not root.startswith(_URI):
        return root
    return os.fsdecode(unquote_to_bytes(root.removeprefix(_URI)))


def same_root(one: str, other: str) -> bool:
    """Whether two roots are one folder: spelled alike, or by another way to the same place."""
    if one == other:
        return True
    try:
        return os.path.samefile(root_folder(one), root_folder(other))
    except OSError:  # one of them is not there (any more)
        return False


def spelled_in(file: str, folder: str) -> str:
    """An absolute path as a name below ``folder`` if the file lies there, whatever link it was reached by."""
    if is_within(file, folder):
        return file
    above, name = os.path.split(file)
    real, real_folder = os.path.join(os.path.realpath(above), name), os.path.realpath(folder)
    return (
        os.path.normpath(os.path.join(folder, os.path.relpath(real, real_folder)))
        if is_within(real, real_folder)
        else file
    )


def is_within(file: str, folder: str) -> bool:
    """Whether an absolute path is a folder or lies below it, by its spelling alone."""
    return file == folder or file.startswith(os.path.join(folder, ""))


def is_absolute(path: str) -> bool:
    """Whether the path of a record needs no root."""
    return os.path.isabs(path)


class Named(Protocol):
    """A record, or the part of one that says where its file is."""

    @property
    def path(self) -> str: ...
    @property
    def member(self) -> str | None: ...
    @property
    def path_b64(self) -> str | None: ...
    @property
    def root(self) -> str | None: ...


def exact_path(record: Named) -> str:
    """The path of a record as the operating system spells it (surrogate-escaped)."""
    return record.path if record.path_b64 is None else os.fsdecode(base64.b64decode(record.path_b64))


def file_of(record: Named, root: str | None = None) -> str | None:
    """The file that a record is about, absolute, as the operating system spells it; for a member: the archive.

    Args:
        record: with its path.
        root: where another folder than the record's own root is meant.

    Returns:
        None where the path is relative and no root is known.
    """
    root = root or record.root
    path = exact_path(record)
    if record.member is not None:
        path = path.removesuffix(f"::{record.member}")
    if is_absolute(path):
        return path
    return None if root is None else os.path.normpath(os.path.join(root_folder(root), path))


def record_path(file: str, root: str) -> tuple[str, str | None]:
    """``path`` and ``path_b64`` of a record.

    Args:
        file: absolute, as the operating system spells it.
        root: the folder that the path is relative to if the file lies below it.
    """
    path = "." if file == root else file.removeprefix(os.path.join(root, ""))
    if os.sep != "/":
        path = path.replace(os.sep, "/")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        exact = os.fsencode(path)
        return exact.decode("utf-8", "replace"), base64.b64encode(exact).decode("ascii")
    return path, None


def move(path: str, path_b64: str | None, root: str) -> tuple[str, str | None]:
    """``path`` and ``path_b64`` under a new ``root`` of records: an absolute path in it becomes relative to it."""
    if not is_absolute(path):
        return path, path_b64
    try:
        file = path if path_b64 is None else os.fsdecode(base64.b64decode(path_b64, validate=True))
    except ValueError:  # no Base64: the path stays as it is
        return path, path_b64
    return record_path(spelled_in(file, root_folder(root)), root_folder(root))
