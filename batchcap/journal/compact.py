"""Compacting a journal: one line an image, its last one; on demand without the images that are no longer there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from batchcap.errors import OptionError, OutputError
from batchcap.journal.codec import Line
from batchcap.journal.reader import JournalReader
from batchcap.journal.updating import locked
from batchcap.roots import file_of, is_absolute, root_folder
from batchcap.system.disks import Disks, Found

_SHOWN: Final = 10
_NEARLY_ALL: Final = 0.9


@dataclass(slots=True)
class Compacted:
    """What compacting a journal did, or would do."""

    path: Path
    records: int = 0
    """Lines that the journal has afterwards."""
    superseded: int = 0
    """Lines that a later one of the same image replaces: they are left out."""
    pruned: int = 0
    """Images that are no longer there: their records are left out."""
    examples: list[str] = field(default_factory=list)
    """The paths of the first of them."""
    away: int = 0
    """Images that are not there, but only because their disk may not be: their records stay."""
    away_folder: str = ""
    """The empty or missing folder of the first of them."""
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def is_needed(self) -> bool:
        """A line would be left out."""
        return self.superseded + self.pruned > 0


def plan(path: Path, *, prune: bool = False, force: bool = False) -> Compacted:
    """What `compact` would do; nothing is changed. Raises as `compact`, but for locks and writing."""
    return _Plan(path, prune=prune, force=force).result


def compact(path: Path, *, prune: bool = False, force: bool = False) -> Compacted:
    """Put a journal of the last line of each image in the place of a journal; these lines keep their order.

    The old one stays until the new one is whole. Rights and owner are kept.

    Args:
        path: the journal.
        prune: leave out images that are no longer there. An image counts as there when its folder is empty or missing
            in such a way that its disk may not be mounted, and when whether it is there cannot be found out.
        force: do so when nearly all of them are gone too.

    Raises:
        OutputLockedError: a run holds the journal.
        InputNotFoundError, OutputError: as `JournalReader`; or its images seem to be on a disk that is not there, or
            the new file cannot be written. The journal is left as it was.
    """
    with locked(path, "compacted") as live:
        found = _Plan(live.path, prune=prune, force=force)
        if found.result.is_needed:
            live.begin(found.size, lacks_end=False)
            live.put(found.lines())
            found.result.bytes_after = live.size
        return found.result


class _Plan:
    """Which lines stay."""

    def __init__(self, path: Path, *, prune: bool, force: bool) -> None:
        if force and not prune:
            raise OptionError("--force is for --prune.", "Leave it out, or add --prune.")
        self.result = Compacted(path)
        self._reader = JournalReader(path)
        self.size = self._reader.size
        self._disks = Disks()
        self._leaves_out = bytearray()
        """For each of the last lines whether it is left out; shorter where the rest stays."""
        images = 0
        for _, line in self._reader.last_lines():
            images += 1
            self.result.bytes_after += len(line)
            if prune:
                self._look_for(self._reader.codec.scan(line), len(line))
        self.result.superseded = self._reader.superseded
        self.result.bytes_before = self.size
        self.result.bytes_after += len(self._reader.codec.header)
        self.result.records = images - self.result.pruned
        if self.result.pruned >= _NEARLY_ALL * images and self.result.pruned and not force:
            raise OutputError(
                f"{path}: {self.result.pruned:,} of its {images:,} images are not there, so nothing was left out. "
                f"The first: {self.result.examples[0]}",
                "Is a disk missing? If they were deleted, add --force.",
            )

    def _look_for(self, line: Line, size: int) -> None:
        if line.root is not None and not is_absolute(line.path):
            self._check_root(line.root)
        try:
            file = file_of(line)
        except ValueError:  # no base64: where it is cannot be found out
            file = None
        found = Found("there") if file is None else self._disks.file(file)
        self._leaves_out.append(found.state == "gone")
        if found.state == "gone":
            self.result.pruned += 1
            self.result.bytes_after -= size
            if len(self.result.examples) < _SHOWN:
                self.result.examples.append(line.path)
        elif found.state == "away":
            self.result.away += 1
            self.result.away_folder = self.result.away_folder or found.empty

    def _check_root(self, root: str) -> None:
        """Raise OutputError where the folder of all images is away: as a rule its disk is not mounted."""
        if self._disks.folder(root_folder(root)).state != "there":
            raise OutputError(
                f"{self.result.path}: the folder of its images, {root}, is not there or empty, so nothing was left "
                "out.",
                "Mount its disk. If the images have moved, give `batchcap run` the new folder and --relocate first.",
            )

    def lines(self) -> Iterator[bytes]:
        yield self._reader.codec.header
        leaves_out = chain(self._leaves_out, repeat(False))
        yield from (
            line for (_, line), left_out in zip(self._reader.last_lines(), leaves_out, strict=False) if not left_out
        )
