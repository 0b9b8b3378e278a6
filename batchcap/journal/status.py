"""What a journal holds: images, captions, failures by kind, how the records were made, and whether a run writes it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from batchcap.journal.live_file import partial_of
from batchcap.journal.reader import JournalReader, reading
from batchcap.options.output import Format
from batchcap.records import Fingerprint, Record
from batchcap.system.locks import is_locked

_EXAMPLES: Final = 3


class FailedImage(msgspec.Struct, frozen=True):
    """One image without a caption."""

    path: str
    """As in the record; the name of a folder that could not be listed ends in a slash."""
    message: str
    """The cause in words."""


class FailureKind(msgspec.Struct, frozen=True):
    """The images that failed in one way."""

    stage: Literal["read", "decode"]
    kind: str
    images: int
    examples: tuple[FailedImage, ...]
    """The first few."""


class MadeWith(msgspec.Struct, frozen=True):
    """The records that were made in one way."""

    model: str
    preprocess: str
    decoding: str
    captions: int
    failures: int


class Rooted(msgspec.Struct, frozen=True):
    """The images whose paths are relative to one folder."""

    root: str | None
    """None: their records do not say which (an older version wrote them)."""
    images: int


class Unfinished(msgspec.Struct, frozen=True):
    """The new file of a run with ``--overwrite`` that has not ended, or was stopped."""

    path: str
    bytes: int
    written: datetime


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal holds. The record of an image is its last line; only these are counted, but for `lines`."""

    path: str
    format: Format
    bytes: int
    lines: int
    """Lines with records."""
    images: int
    superseded: int
    """Lines that a later one of the same image replaces; ``batchcap compact`` takes them out."""
    torn_bytes: int
    """Bytes of a last line that is not whole: the next run cuts it."""
    captions: int
    damaged: int
    """Captions of images that are damaged: see ``--accept-damaged``."""
    failures: int
    failure_kinds: tuple[FailureKind, ...]
    """The most frequent first."""
    made_with: tuple[MadeWith, ...]
    """The most frequent first."""
    roots: tuple[Rooted, ...]
    """The most frequent first."""
    written: datetime
    """When the file was last written."""
    in_use: bool | None
    """Whether a run holds the file now; None: its file system does not tell."""
    unfinished: Unfinished | None


def read_status(path: Path) -> JournalStatus:
    """Read a journal; a run that writes it is not disturbed. Raises as `JournalReader`."""
    reader = JournalReader(path)
    with reading(path):
        written = _written(path)
        in_use = is_locked(path)
        unfinished = _unfinished(path)
    count = _Count()
    for record in reader.last_records():
        count.add(record)
    images = count.captions + count.failures
    return JournalStatus(
        path=str(path),
        format=reader.format,
        bytes=reader.size,
        lines=images + reader.superseded,
        images=images,
        superseded=reader.superseded,
        torn_bytes=reader.torn,
        captions=count.captions,
        damaged=count.damaged,
        failures=count.failures,
        failure_kinds=count.failure_kinds(),
        made_with=count.made_with(),
        roots=tuple(Rooted(root, found) for root, found in count.roots.most_common()),
        written=written,
        in_use=in_use,
        unfinished=unfinished,
    )


class _Count:
    """Counts records, one after the other."""

    def __init__(self) -> None:
        self.captions = self.failures = self.damaged = 0
        self.roots: Counter[str | None] = Counter()
        self._kinds: Counter[tuple[Literal["read", "decode"], str]] = Counter()
        self._examples: dict[tuple[str, str], list[FailedImage]] = {}
        self._made: Counter[Fingerprint] = Counter()
        self._failed: Counter[Fingerprint] = Counter()

    def add(self, record: Record) -> None:
        made = Fingerprint(record.model, record.preprocess, record.decoding)
        self.roots[record.root] += 1
        self._made[made] += 1
        if record.error is None:
            self.captions += 1
            self.damaged += record.damaged is not None
            return
        self.failures += 1
        self._failed[made] += 1
        kind = record.error.stage, record.error.kind
        self._kinds[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            slash = "/" if record.error.of_folder else ""
            examples.append(FailedImage(record.path + slash, record.error.message))

    def failure_kinds(self) -> tuple[FailureKind, ...]:
        return tuple(
            FailureKind(stage, kind, count, tuple(self._examples[stage, kind]))
            for (stage, kind), count in self._kinds.most_common()
        )

    def made_with(self) -> tuple[MadeWith, ...]:
        return tuple(
            MadeWith(made.model, made.preprocess, made.decoding, count - self._failed[made], self._failed[made])
            for made, count in self._made.most_common()
        )


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _unfinished(path: Path) -> Unfinished | None:
    partial = partial_of(path)
    if not partial.is_file():
        return None
    return Unfinished(str(partial), partial.stat().st_size, _written(partial))
