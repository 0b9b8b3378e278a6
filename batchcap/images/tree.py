"""The folders below the inputs, and the names in them that count as images: without looking at any file.

For `--watch`, which has to know the folders before something happens in them. The rules for names and links are those
of `batchcap.images.walk`.
"""

# Names as the operating system has them, as in the walk.
# ruff: noqa: PTH114, PTH116, PTH118, PTH120, PTH206
from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from batchcap.images.walk import SUFFIXES, Identity, Input
from batchcap.roots import is_within


class Folder(NamedTuple):
    """One folder."""

    path: str
    images: list[str]
    """The absolute names in it that count as images."""


def folders(tops: Sequence[str]) -> Iterator[Folder]:
    """The folders ``tops`` and those below them, each once whatever links lead to it, in no order.

    What is not there, or cannot be listed, is left out: the walk says so.
    """
    seen: set[Identity] = set()
    stack = list(reversed(tops))
    while stack:
        path = stack.pop()
        images: list[str] = []
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as scan:
                for entry in scan:
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        stack.append(entry.path)
                    elif entry.name.lower().endswith(SUFFIXES):
                        images.append(entry.path)
        except (OSError, ValueError):
            continue
        yield Folder(path, images)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_wanted(path: str, inputs: Sequence[Input]) -> bool:
    """Whether the walk of the inputs comes to a folder with this absolute name, as far as names can tell."""
    return any(each.name is None and _is_visible(path, each.file) for each in inputs)


def is_wanted_image(path: str, inputs: Sequence[Input]) -> bool:
    """Whether the walk of the inputs takes a file with this absolute name, as far as names can tell."""
    if any(each.name is not None and each.file == path for each in inputs):
        return True
    return path.lower().endswith(SUFFIXES) and is_wanted(path, inputs)


def _is_visible(path: str, top: str) -> bool:
    """Whether a name lies below a folder, and nothing on the way begins with a dot."""
    return is_within(path, top) and not any(name.startswith(".") for name in path[len(top) :].split(os.sep))


def is_plain(path: str, inputs: Sequence[Input]) -> bool:
    """Whether a file has this name alone, so that the walk takes it whatever else there is: no links lead to it.

    False also where it is not there.
    """
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    if os.path.islink(path) or status.st_nlink > 1:
        return False
    return any(
        each.file == path if each.name is not None else _is_below_without_links(path, each.file) for each in inputs
    )


def _is_below_without_links(path: str, top: str) -> bool:
    if not is_within(path, top):
        return False
    folder = os.path.dirname(path)
    expected = os.path.join(os.path.realpath(top), os.path.relpath(folder, top))
    return os.path.realpath(folder) == os.path.normpath(expected)
