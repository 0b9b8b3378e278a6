"""Every image file below the inputs, each real one once, and a count of what is not read.

A file or folder is known by device and inode. What a symbolic link leads to comes out under its real name where that
lies below an input, and under the name of the first link to it where it does not; so a name does not depend on which
links there are beside it. Of the names of a file with hard links the first comes out. Only what is reached through a
link, or has several names, is remembered: about 75 bytes each.
"""

# A Path object for each of 50 million names would be the slowest part of the walk.
# ruff: noqa: PTH114, PTH116, PTH118
from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from batchcap.images import kinds
from batchcap.images.files import Look, look
from batchcap.records import Failure

SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".avifs", ".bmp", ".tif", ".tiff"),
    *(".gif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".ico"),
)
"""Names that count as images inside a folder: those of all formats that are read."""

# Kinds that are counted apart; a folder of names with numbers for endings must not fill the memory.
_MOST_KINDS: Final = 100
_MOST_FOLDERS: Final = 1000

Identity: TypeAlias = tuple[int, int]
"""Device and inode: what a file or folder is, whatever it is called."""


@dataclass(slots=True)
class Unread:
    """What lies in the folders and is not read."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Files by kind: ``.heic``, ``.txt``, or ``other``. Names that begin with a dot are not counted."""
    links: int = 0
    """Names left out because their image or folder comes under another name."""

    def add(self, name: str) -> None:
        """Count a file that is not read."""
        kind = kinds.of_name(name)
        self.kinds[kind if kind in self.kinds or len(self.kinds) < _MOST_KINDS else "other"] += 1


class Found(NamedTuple):
    """One file, or one folder that could not be listed."""

    file: str
    look: Look


@dataclass(frozen=True, slots=True)
class Input:
    """One input: a folder, or a file as a name in a folder."""

    file: str
    """Absolute path, spelled as the user did where that is possible."""
    folder: Identity
    """The folder itself, or the one that holds the file."""
    name: str | None
    """Name of the file in its folder; None for a folder."""


class _Entry(NamedTuple):
    name: str
    is_folder: bool
    is_link: bool


@dataclass(slots=True)
class _Level:
    """A folder that is being listed."""

    file: str
    identity: Identity
    linked: bool
    """It was reached through a link that lies below an input."""
    entries: Iterator[_Entry] = field(default_factory=lambda: iter(()))


@dataclass(slots=True)
class _Seen:
    """Which inputs came out already, and which files and folders that may have other names."""

    folders: dict[Identity, bool] = field(default_factory=dict)
    files: dict[Identity, dict[str, bool]] = field(default_factory=dict)
    _known: dict[int, set[int]] = field(default_factory=dict)
    _covered: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Sequence[Input]) -> _Seen:
        seen = cls()
        for each in inputs:
            if each.name is None:
                seen.folders[each.folder] = False
            else:
                seen.files.setdefault(each.folder, {})[each.name] = False
        return seen

    def first_time(self, folder: Identity, name: str | None = None) -> bool:
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

    def mark_seen(self, identity: Identity) -> bool:
        """Remember a file or folder that may have other names; whether it is new."""
        device, inode = identity
        known = self._known.setdefault(device, set())
        if inode == 0:  # a file system that numbers nothing
            return True
        before = len(known)
        known.add(inode)
        return len(known) > before

    def has_real_name(self, link: str) -> bool:
        """Whether the walk comes to what a link leads to under its real name."""
        folder, name = os.path.split(os.path.realpath(link))
        try:
            status = os.stat(folder)
        except OSError:
            return False
        if name in self.files.get((status.st_dev, status.st_ino), ()):
            return True
        return not name.startswith(".") and name.lower().endswith(SUFFIXES) and self.covers(folder)

    def covers(self, folder: str) -> bool:
        """Whether the walk comes to a folder, given by its real path: it is an input, or visibly below one."""
        passed: list[str] = []
        at, found = folder, False
        while True:
            if at in self._covered:
                found = self._covered[at]
                break
            passed.append(at)
            try:
                status = os.stat(at)
            except OSError:
                break
            above, name = os.path.split(at)
            found = (status.st_dev, status.st_ino) in self.folders
            if found or name.startswith(".") or above == at:
                break
            at = above
        if len(self._covered) < _MOST_FOLDERS:
            self._covered.update(dict.fromkeys(passed, found))
        return found


def walk(inputs: Sequence[Input], unread: Unread | None = None) -> Iterator[Found]:
    """Every file, each once, in the order of the inputs; folders depth-first, names by bytes.

    Args:
        inputs: what was named.
        unread: counts what is left out, as far as the walk has come.
    """
    seen, left_out = _Seen.of(inputs), unread or Unread()
    for each in inputs:
        if not seen.first_time(each.folder, each.name):
            continue
        if each.name is None:
            yield from _descend(each, seen, left_out)
        elif (found := _file(each.file, seen, is_link=os.path.islink(each.file), linked=False)) is not None:
            yield found
        else:
            left_out.links += 1


def _file(file: str, seen: _Seen, *, is_link: bool, linked: bool) -> Found | None:
    """A file, unless it comes, or came, under another name."""
    looked = look(file)
    if looked.failure is None and looked.identity is not None:
        if is_link and seen.has_real_name(file):
            return None
        if (is_link or linked or looked.links > 1) and not seen.mark_seen(looked.identity):
            return None
    return Found(file, looked)


def _descend(start: Input, seen: _Seen, unread: Unread) -> Iterator[Found]:
    """Depth-first below one folder. Not recursive: folders may be deeper than Python's limit."""
    stack: list[_Level] = []
    pending: _Level | None = _Level(start.file, start.folder, linked=False)
    while pending is not None or stack:
        if pending is not None:
            entries, failure = _list(pending.file, unread)
            if failure is not None:
                yield Found(pending.file, Look(0, 0, failure))
            pending.entries = iter(entries)
            stack.append(pending)
            pending = None
        level = stack[-1]
        for entry in level.entries:
            file = os.path.join(level.file, entry.name)
            if not entry.is_folder:
                if seen.first_time(level.identity, entry.name):
                    found = _file(file, seen, is_link=entry.is_link, linked=level.linked)
                    unread.links += found is None
                    if found is not None:
                        yield found
                continue
            try:
                status = os.stat(file)
            except OSError as error:
                # A link that cannot be followed and is called like an image was one; anything else was a folder.
                is_image = entry.is_link and entry.name.lower().endswith(SUFFIXES)
                why = Failure.from_os_error(error) if is_image else Failure.from_folder_error(error)
                yield Found(file, Look(0, 0, why))
                continue
            below = _Level(file, (status.st_dev, status.st_ino), level.linked or entry.is_link)
            if _enters(below, stack, seen, is_link=entry.is_link):
                pending = below
                break
            unread.links += 1
        else:
            stack.pop()


def _enters(below: _Level, stack: Sequence[_Level], seen: _Seen, *, is_link: bool) -> bool:
    """Whether a folder is listed here: it is no folder above itself, and does not come, or came, under another name."""
    if any(below.identity == above.identity for above in stack):
        return False
    if not below.linked:
        return seen.first_time(below.identity)
    if below.identity in seen.folders or (is_link and seen.covers(os.path.realpath(below.file))):
        return False
    return seen.mark_seen(below.identity)


def _list(folder: str, unread: Unread) -> tuple[list[_Entry], Failure | None]:
    """The entries that count, by the bytes of their names, and why there may be more."""
    entries: list[_Entry] = []
    failure = None
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    entries.append(_Entry(entry.name, is_folder=True, is_link=entry.is_symlink()))
                elif entry.name.lower().endswith(SUFFIXES):
                    entries.append(_Entry(entry.name, is_folder=False, is_link=entry.is_symlink()))
                elif _may_have_been_a_folder(entry):
                    entries.append(_Entry(entry.name, is_folder=True, is_link=True))
                else:
                    unread.add(entry.name)
    except OSError as error:
        failure = Failure.from_folder_error(error)
    entries.sort(key=lambda entry: os.fsencode(entry.name))
    return entries, failure


def _may_have_been_a_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a name is a link to nothing (a disk that is away), and has no ending that a file would have."""
    if not entry.is_symlink() or kinds.of_name(entry.name).strip(".0123456789") not in ("", "other"):
        return False
    try:
        os.stat(entry.path)
    except FileNotFoundError:
        return True
    except OSError:  # a link to itself leads to nothing, and never did
        return False
    return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link that cannot be followed. It may have led to a folder, so it is looked at again later and reported then.
        # A link to itself leads to nothing, like a dangling one.
        return error.errno != errno.ELOOP
