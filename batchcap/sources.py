"""Folders and files on disk to `ImageRef`s: lazy, in a stable order, each file once, and nothing swallowed.

Inside a folder, everything whose name ends in one of `SUFFIXES` is taken (upper or lower case), folders depth-first and
names by bytes. Names that begin with a dot are skipped, folders as well: caches, thumbnails, macOS's ``._IMG_1.jpg``.
A file that is named as an input is taken whatever it is called. Symbolic links are followed, except back into a folder
that is being listed.
"""

# A Path object for each of 50 million names would be the slowest part of the walk.
# ruff: noqa: PTH100, PTH109, PTH112, PTH116, PTH118
from __future__ import annotations

import base64
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from batchcap.errors import DuplicateKeyError, InputNotFoundError, OptionError
from batchcap.files import look
from batchcap.records import Failure, ImageRef, Key
from batchcap.roots import Root, is_within

SUFFIXES: Final = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Names that count as pictures inside a folder."""

_Identity: TypeAlias = tuple[int, int]
"""Device and inode: what a folder is, whatever it is called."""


class _Found(NamedTuple):
    """One file, or one folder that could not be listed."""

    file: str
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _Input:
    """One input: a folder, or a file as a name in a folder."""

    file: str
    """Absolute path, spelled as the user did where that is possible."""
    folder: _Identity
    """The folder itself, or the one that holds the file."""
    name: str | None
    """Name of the file in its folder; None for a folder."""


@dataclass(slots=True)
class _Level:
    """A folder that is being listed."""

    file: str
    identity: _Identity
    entries: Iterator[tuple[str, bool]]
    """Name, and whether it is a folder."""


@dataclass(slots=True)
class _Seen:
    """Which inputs came out already. Grows with the inputs, not with the files."""

    folders: dict[_Identity, bool] = field(default_factory=dict)
    files: dict[_Identity, dict[str, bool]] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Sequence[_Input]) -> _Seen:
        seen = cls()
        for each in inputs:
            if each.name is None:
                seen.folders[each.folder] = False
            else:
                seen.files.setdefault(each.folder, {})[each.name] = False
        return seen

    def first_time(self, folder: _Identity, name: str | None = None) -> bool:
        """Whether this folder (or the file ``name`` in it) is not an input, or one that did not come out before."""
        if name is None:
            if folder not in self.folders:
                return True
            before, self.folders[folder] = self.folders[folder], True
            return not before
        names = self.files.get(folder)
        if names is None or name not in names:
            return True
        before, names[name] = names[name], True
        return not before


def discover(inputs: Sequence[Path], root: Path | None = None) -> Iterator[ImageRef]:
    """Find the pictures under ``inputs``, in the order given; what two inputs share comes out the first time only.

    Args:
        inputs: folders (searched to the bottom) and files.
        root: record paths are relative to this folder; None: the input if it is one folder alone, else the current
            folder. What lies outside keeps its absolute path.

    Returns:
        A lazy iterator. Only the names of the folders between an input and the current file are in memory. What cannot
        be read (a folder without permission, a file that vanished, a dangling link) comes out as an `ImageRef` with
        ``failure``.

    Raises:
        InputNotFoundError: at once, before anything is listed: an input does not exist or is neither folder nor file.
        OptionError: at once: ``root`` is no folder, or has nothing to do with any input.
        DuplicateKeyError: two different files would get one key.
    """
    resolved = [_resolve(path) for path in inputs]
    base = _base(resolved, root)
    named = _keys_of_files(resolved, base)
    return _refs(resolved, base, named)


def root_of(inputs: Sequence[Path], root: Path | None = None) -> Root:
    """The folder that the paths of `discover` are relative to, with the same arguments.

    Raises:
        InputNotFoundError, OptionError: as `discover`.
    """
    resolved = [_resolve(path) for path in inputs]
    return Root(_base(resolved, root), tuple(each.file for each in resolved))


def count(inputs: Sequence[Path]) -> int:
    """How many `ImageRef`s `discover` gives for ``inputs``, without looking at the files themselves.

    Raises:
        InputNotFoundError: as `discover`.
    """
    return sum(1 for _ in _walk([_resolve(path) for path in inputs]))


def _refs(inputs: Sequence[_Input], base: str, named: dict[Key, str]) -> Iterator[ImageRef]:
    for found in _walk(inputs):
        ref = _reference(found, base)
        # Only the Base64 key of a name that is not UTF-8 can equal another path, and only a file named as an input can
        # have such a path: Base64 has no dot for a suffix.
        if ref.path_b64 is not None and named.get(ref.key, ref.file) != ref.file:
            raise _duplicate(named[ref.key], ref.file)
        yield ref


def _resolve(path: Path) -> _Input:
    """Make an input absolute and say what it is.

    ``..`` after a symbolic link leads to the parent of the link's target, so the part up to the last ``..`` is resolved
    as the operating system does; the rest stays as the user spelled it.
    """
    file = _absolute(path)
    try:
        status = os.stat(file)
        if stat.S_ISDIR(status.st_mode):
            return _Input(file, (status.st_dev, status.st_ino), None)
        folder, name = os.path.split(file)
        holder = os.stat(folder)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputNotFoundError(
            f"Input {_shown(path)}: {reason}.", "Check the spelling and the permissions."
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise InputNotFoundError(
            f"Input {_shown(path)}: neither folder nor regular file.", "Name a folder or an image."
        )
    return _Input(file, (holder.st_dev, holder.st_ino), name)


def _absolute(path: Path) -> str:
    parts = path.parts
    if os.pardir not in parts:
        return os.path.abspath(path)
    after = len(parts) - parts[::-1].index(os.pardir)
    return os.path.join(os.path.realpath(os.path.join(*parts[:after])), *parts[after:])


def _base(inputs: Sequence[_Input], root: Path | None) -> str:
    """The absolute folder that record paths are relative to."""
    if root is not None:
        base = _absolute(root)
        if not os.path.isdir(base):
            raise OptionError(
                f"--root {_shown(root)}: no such folder.", "Name the folder that paths in the output start from."
            )
        if not any(is_within(each.file, base) or is_within(base, each.file) for each in inputs):
            names = ", ".join(_shown(each.file) for each in inputs[:3]) + (", ..." if len(inputs) > 3 else "")
            raise OptionError(
                f"--root {_shown(root)}: none of the inputs is in this folder: {names}.",
                "Name a folder that they are in, or leave --root out.",
            )
        return base
    alone = {(each.folder, each.name): each.file for each in reversed(inputs)}
    (_, name), file = next(iter(alone.items()))
    return file if len(alone) == 1 and name is None else os.getcwd()


def _keys_of_files(inputs: Sequence[_Input], base: str) -> dict[Key, str]:
    """The keys of the files among the inputs."""
    files: dict[Key, str] = {}
    places: set[tuple[_Identity, str]] = set()
    for each in inputs:
        if each.name is None or (each.folder, each.name) in places:
            continue
        places.add((each.folder, each.name))
        path, path_b64 = _record_path(each.file, base)
        other = files.setdefault((path_b64 or path, None), each.file)
        if other != each.file:
            raise _duplicate(other, each.file)
    return files


def _duplicate(one: str, other: str) -> DuplicateKeyError:
    names = f"{_shown(one)} and {_shown(other)}"
    return DuplicateKeyError(f"Two files have the same key in the output: {names}.", "Rename one of them.")


def _shown(path: str | Path) -> str:
    """A name that any terminal can print."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(inputs: Sequence[_Input]) -> Iterator[_Found]:
    """Every file, each once, without looking at it."""
    seen = _Seen.of(inputs)
    for each in inputs:
        if not seen.first_time(each.folder, each.name):
            continue
        if each.name is None:
            yield from _descend(each, seen)
        else:
            yield _Found(each.file)


def _descend(start: _Input, seen: _Seen) -> Iterator[_Found]:
    """Depth-first below one folder. Not recursive: folders may be deeper than Python's limit."""
    stack: list[_Level] = []
    pending: tuple[str, _Identity] | None = (start.file, start.folder)
    while pending is not None or stack:
        if pending is not None:
            entries, failure = _list(pending[0])
            if failure is not None:
                yield _Found(pending[0], failure)
            stack.append(_Level(*pending, iter(entries)))
            pending = None
        level = stack[-1]
        for name, is_folder in level.entries:
            file = os.path.join(level.file, name)
            if not is_folder:
                if seen.first_time(level.identity, name):
                    yield _Found(file)
                continue
            try:
                status = os.stat(file)
            except OSError as error:
                yield _Found(file, Failure.from_os_error(error))
                continue
            identity = (status.st_dev, status.st_ino)
            if all(identity != above.identity for above in stack) and seen.first_time(identity):
                pending = (file, identity)
                break
        else:
            stack.pop()


def _list(folder: str) -> tuple[list[tuple[str, bool]], Failure | None]:
    """The entries that count, by the bytes of their names, and why there may be more."""
    entries: list[tuple[str, bool]] = []
    failure = None
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    entries.append((entry.name, True))
                elif entry.name.lower().endswith(SUFFIXES):
                    entries.append((entry.name, False))
    except OSError as error:
        failure = Failure.from_folder_error(error)
    entries.sort(key=lambda entry: os.fsencode(entry[0]))
    return entries, failure


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link that cannot be followed. It may have led to a folder, so it is looked at again later and reported then.
        # A link to itself leads to nothing, like a dangling one.
        return error.errno != errno.ELOOP


def _reference(found: _Found, base: str) -> ImageRef:
    path, path_b64 = _record_path(found.file, base)
    if found.failure is not None:
        return ImageRef(path, found.file, 0, 0, path_b64=path_b64, failure=found.failure)
    size, mtime_us, failure, _, _ = look(found.file)
    return ImageRef(path, found.file, size, mtime_us, path_b64=path_b64, failure=failure)


def _record_path(file: str, base: str) -> tuple[str, str | None]:
    """``path`` and ``path_b64`` of a record."""
    path = "." if file == base else file.removeprefix(os.path.join(base, ""))
    if os.sep != "/":
        path = path.replace(os.sep, "/")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        exact = os.fsencode(path)
        return exact.decode("utf-8", "replace"), base64.b64encode(exact).decode("ascii")
    return path, None
