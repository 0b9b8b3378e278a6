"""One root for the records of several journals."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import msgspec

from batchcap.errors import RootError
from batchcap.records import Record
from batchcap.roots import exact_path, is_absolute, is_within, move, record_path, root_folder, root_text, same_root


class OneRoot:
    """Gives records the root that was asked for; without one, checks that all have the same."""

    def __init__(self, folder: str | None) -> None:
        """``folder``: absolute, as the operating system spells it."""
        self.stays = folder is None
        """No root was asked for: records stay as they are."""
        self._folder = folder or ""
        self._text = root_text(self._folder)
        self._known: dict[str | None, Path] = {}

    def moved(self, record: Record, journal: Path) -> Record:
        """The record with the root that was asked for; the same object where nothing changes.

        Raises:
            RootError: no root was asked for, and a record before this one has another root.
        """
        if self.stays:
            if record.root not in self._known:
                self._check(record.root, journal)
            return record
        if record.root == self._text:
            return record
        path, path_b64 = self._path(record)
        return msgspec.structs.replace(record, path=path, path_b64=path_b64, root=self._text)

    def _path(self, record: Record) -> tuple[str, str | None]:
        old = record.root and root_folder(record.root)
        if not old or not is_within(old, self._folder) or is_absolute(record.path):
            return move(record.path, record.path_b64, self._text)
        return record_path(os.path.join(old, exact_path(record)), self._folder)  # noqa: PTH118 - for each of a million records

    def _check(self, root: str | None, journal: Path) -> None:
        for other, first in self._known.items():
            if root is None or other is None or not same_root(root, other):
                raise RootError(
                    f"{journal} and {first} have paths that are relative to different folders: "
                    f"{_shown(root)} and {_shown(other)}.",
                    "If these are names of one folder on several hosts, add --root with the name to write: "
                    f"--root {shlex.quote(_shown(other if root is None else root))}. If they are folders inside one "
                    "folder, name that one: paths then begin with the way to them.",
                )
        self._known[root] = journal


def _shown(root: str | None) -> str:
    return "(not said)" if root is None else root
