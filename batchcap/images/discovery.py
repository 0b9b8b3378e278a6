"""Folders and files on disk to `ImageRef`s: lazy, in a stable order, each file once, and every failure reported.

Inside a folder, everything whose name ends in one of `SUFFIXES` is taken (upper or lower case), folders depth-first and
names by bytes. Names that begin with a dot are skipped, folders as well: caches, thumbnails, macOS's ``._IMG_1.jpg``.
A file that is named as an input is taken whatever it is called. Links are followed, and each real file comes out once:
see `batchcap.images.walk`.
"""

# A Path object for each of 50 million names would be the slowest part of the walk.
# ruff: noqa: PTH100, PTH109, PTH112, PTH116, PTH118
from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from batchcap.errors import DuplicateKeyError, InputNotFoundError, OptionError
from batchcap.images.files import look
from batchcap.images.walk import SUFFIXES, Found, Identity, Input, Unread, walk
from batchcap.records import ImageRef, Key, key_of
from batchcap.roots import Root, is_within, record_path, spelled_in

__all__ = ["SUFFIXES", "Inputs", "count", "discover", "resolve"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs that are there, and the folder that paths are relative to. Make it with `resolve`."""

    resolved: tuple[Input, ...]
    """In the order given; where one lies below the root, its path begins with the root's."""
    root: Root

    def images(self, unread: Unread | None = None) -> Iterator[ImageRef]:
        """Find the images, in the order of the inputs; what two inputs share comes out the first time only.

        Args:
            unread: counts what lies in the folders and is not read, as far as the iterator has come.

        Returns:
            A lazy iterator. Only the names of the folders between an input and the current file are in memory, and what
            was reached through links. What cannot be read (a folder without permission, a file that vanished, a
            dangling link) comes out as an `ImageRef` with ``failure``.

        Raises:
            DuplicateKeyError: two different files would get one key.
        """
        return self._refs(walk(self.resolved, unread))

    def look_at(self, files: Iterable[str]) -> Iterator[ImageRef]:
        """These files, given by absolute names, as `images` would find them; one that is not there has a failure."""
        return self._refs(Found(file, look(file)) for file in files)

    def _refs(self, files: Iterable[Found]) -> Iterator[ImageRef]:
        named = _keys_of_files(self.resolved, self.root.folder)
        return _refs(files, self.root.folder, named)

    def present(self) -> Inputs:
        """The inputs that are there now, looked at again: a disk may have been taken away, or another one mounted."""
        now = []
        for each in self.resolved:
            with suppress(InputNotFoundError):
                again = _resolve(Path(each.file))
                if (again.name is None) == (each.name is None):
                    now.append(replace(again, file=each.file))
        return replace(self, resolved=tuple(now))


def resolve(inputs: Sequence[Path], root: Path | None = None) -> Inputs:
    """Look at every input, before anything is listed.

    Args:
        inputs: folders (searched to the bottom) and files.
        root: record paths are relative to this folder; None: the input if it is one folder alone, else the current
            folder. What lies outside keeps its absolute path.

    Raises:
        InputNotFoundError: an input does not exist or is neither folder nor file.
        OptionError: ``root`` is no folder, or has nothing to do with any input.
    """
    resolved, base = _resolve_all(inputs, root)
    return Inputs(tuple(resolved), Root(base, tuple(each.file for each in resolved)))


def discover(inputs: Sequence[Path]) -> Iterator[ImageRef]:
    """`resolve`, and the images that `Inputs.images` finds; raises as both of them, at once."""
    return resolve(inputs).images()


def count(inputs: Sequence[Path]) -> int:
    """How many images `discover` finds in ``inputs``.

    Raises:
        InputNotFoundError: as `resolve`.
    """
    return sum(1 for _ in walk([_resolve(path) for path in inputs]))


def _refs(files: Iterable[Found], base: str, named: dict[Key, str]) -> Iterator[ImageRef]:
    for found in files:
        ref = _reference(found, base)
        # Only the Base64 key of a name that is not UTF-8 can equal another path, and only a file named as an input can
        # have such a path: Base64 has no dot for a suffix.
        if ref.path_b64 is not None and named.get(ref.key, ref.file) != ref.file:
            raise _duplicate(named[ref.key], ref.file)
        yield ref


def _resolve_all(inputs: Sequence[Path], root: Path | None) -> tuple[list[Input], str]:
    """The inputs, and the folder that paths are relative to. The paths of inputs in that folder begin with its path."""
    try:
        resolved = [_resolve(path) for path in inputs]
        base = None if root is None else _absolute(root)
        if base is None:
            alone = {(each.folder, each.name): each.file for each in reversed(resolved)}
            (_, name), file = next(iter(alone.items()))
            base = file if len(alone) == 1 and name is None else os.getcwd()
    except FileNotFoundError as error:
        if isinstance(error, InputNotFoundError):
            raise
        raise InputNotFoundError("The current folder is no longer there.", "Change into one that is.") from None
    # One file has one path: a folder may be a link itself, of a file only the folders above it count.
    resolved = [replace(each, file=_spelled(each, base)) for each in resolved]
    if root is not None:
        _check_base(resolved, root, base)
    return resolved, base


def _spelled(each: Input, base: str) -> str:
    file = each.file
    if each.name is None and not is_within(file, base):
        real = os.path.realpath(file)
        file = real if is_within(real, os.path.realpath(base)) else file
    return spelled_in(file, base)


def _resolve(path: Path) -> Input:
    """Make an input absolute and say what it is.

    ``..`` after a symbolic link leads to the parent of the link's target, so the part up to the last ``..`` is resolved
    as the operating system does; the rest stays as the user spelled it.
    """
    file = _absolute(path)
    try:
        status = os.stat(file)
        if stat.S_ISDIR(status.st_mode):
            return Input(file, (status.st_dev, status.st_ino), None)
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
    return Input(file, (holder.st_dev, holder.st_ino), name)


def _absolute(path: Path) -> str:
    parts = path.parts
    if os.pardir not in parts:
        return os.path.abspath(path)
    after = len(parts) - parts[::-1].index(os.pardir)
    return os.path.join(os.path.realpath(os.path.join(*parts[:after])), *parts[after:])


def _check_base(inputs: Sequence[Input], root: Path, base: str) -> None:
    """Raise OptionError for a ``--root`` that is no folder, or has nothing to do with any input."""
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


def _keys_of_files(inputs: Sequence[Input], base: str) -> dict[Key, str]:
    """The keys of the files among the inputs."""
    files: dict[Key, str] = {}
    places: set[tuple[Identity, str]] = set()
    for each in inputs:
        if each.name is None or (each.folder, each.name) in places:
            continue
        places.add((each.folder, each.name))
        path, path_b64 = record_path(each.file, base)
        other = files.setdefault(key_of(path, path_b64), each.file)
        if other != each.file:
            raise _duplicate(other, each.file)
    return files


def _duplicate(one: str, other: str) -> DuplicateKeyError:
    names = f"{_shown(one)} and {_shown(other)}"
    return DuplicateKeyError(f"Two files have the same key in the output: {names}.", "Rename one of them.")


def _shown(path: str | Path) -> str:
    """A name that any terminal can print."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _reference(found: Found, base: str) -> ImageRef:
    path, path_b64 = record_path(found.file, base)
    size, mtime_us, failure, _, _ = found.look
    return ImageRef(path, found.file, size, mtime_us, path_b64=path_b64, failure=failure)
