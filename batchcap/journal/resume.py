"""The resume index: what a journal already holds, 45 bytes an image, and the decision whether an image is done.

Rules: the last line of a key is its record. A caption is done while the file's size and time and the fingerprint are
the same, or of other files too where changed ones are skipped. An error of stage ``read`` is never done; one of stage
``decode`` is done while the file is the same, unless its kind is retried, or damaged images are accepted now. A damaged
image that has a caption keeps it. What failed was the image and not the model, so an error made under another
fingerprint never stops a run: it is tried again, or left alone where other fingerprints are kept.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from itertools import compress, islice
from typing import Final, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from batchcap.errors import DecodeErrorKind
from batchcap.journal.codec import Line
from batchcap.journal.columns import Columns, Table, digest, digests
from batchcap.journal.contents import Contents
from batchcap.options.journal import RetryKind
from batchcap.records import ACCEPTABLE, Failure, Fingerprint, ImageRef, Key, Record
from batchcap.roots import is_absolute

_CAPTIONED: Final = 0
_READ_ERROR: Final = 1
# Then those of stage ``decode``, by their kinds, and one for kinds of another version.
_KINDS: Final = {kind: outcome for outcome, kind in enumerate(get_args(DecodeErrorKind), _READ_ERROR + 1)}
_OTHER_KIND: Final = _READ_ERROR + 1 + len(_KINDS)
_OUTCOMES: Final = 16
# [outcomes] the kind of error that each stands for; empty where there is none.
_FAILED_AS: Final = ("", "read", *_KINDS, *["other"] * (_OUTCOMES - _OTHER_KIND))
# The state of a record: its outcome, whether it has a hash, and the number of its fingerprint; 0 is this run's.
_HASHED: Final = _OUTCOMES
_GROUP: Final = 2 * _HASHED
_ABSENT: Final = -(2**63)
# The first and the last so many lines, and of those between one in so many.
_SAMPLES: Final = 100
_SAMPLED: Final = 10_000


def _outcome(error: Failure | None) -> int:
    if error is None:
        return _CAPTIONED
    if error.stage == "read":
        return _READ_ERROR
    return _KINDS.get(error.kind, _OTHER_KIND)


def _error_hash(error: Failure | None) -> int:
    return 0 if error is None else hash((error.stage, error.kind, error.message))


def _number(value: int | None) -> int:
    return _ABSENT if value is None else value


class Standing(NamedTuple):
    """What the journal says of one image."""

    row: int
    """-1: nothing."""
    is_done: bool
    """Its record needs no work."""
    failed: str
    """The kind of the error in its record, ``other`` for a kind of another version; empty: it has a caption."""


class ResumeIndex:
    """What a journal says of every image: `add` all lines, `seal`, then ask.

    What is asked is answered by the lines added before the last `seal`.
    """

    def __init__(
        self,
        fingerprint: Fingerprint,
        *,
        keep: bool = False,
        skip_changed: bool = False,
        retry_errors: Collection[RetryKind] = (),
        accept_damaged: bool = False,
        contents: Contents | None = None,
    ) -> None:
        self.size = 0
        """Bytes of the journal that hold the lines added, its header included; counted by who reads it."""
        self.lacks_end = False
        """The last line is whole, but has no line end; noted by who reads it."""
        self._keep, self._skip_changed = keep, skip_changed
        self.contents = contents
        """Where captions of this run's fingerprint stand; None: not asked for."""
        retried = set(ACCEPTABLE if accept_damaged else ()) | set(retry_errors)
        # [outcomes] whether one is done while the file is the same.
        self._settled = np.full(_OUTCOMES, "all" not in retried)
        self._settled[[_KINDS[kind] for kind in _KINDS if kind in retried]] = False
        self._settled[[_CAPTIONED, _READ_ERROR]] = True, False
        # Group 0 is this run's fingerprint, the others are numbered as they come.
        self._groups = {(fingerprint.model, fingerprint.preprocess, fingerprint.decoding): 0}
        # What most lines have in common is looked up together, and numbered as it comes; the group of each.
        self._origins: dict[tuple[str, str, str, str | None], int] = {}
        self._group_of: list[int] = []
        self.roots: Counter[str | None] = Counter()
        """The folders that paths are relative to, with the number of lines; None: the line does not say."""
        self.models: set[str] = set()
        """The labels of all models that made a line, errors too."""
        self.samples: list[Line] = []
        """Some lines with relative paths, from the whole file; once sealed, only those that are the record of their
        image."""
        self._latest: deque[Line] = deque(maxlen=_SAMPLES)
        self._added = 0
        self._table = Table.empty()
        self._columns = Columns()

    def add(self, lines: Sequence[Line], places: Sequence[int]) -> None:
        """Take the next lines of the journal; each replaces an earlier one of the same key.

        Args:
            lines: what they say.
            places: the byte at which each begins; only `contents` needs them.
        """
        counts = Counter(self._take(lines, places))
        origins = list(self._origins)
        for origin, count in counts.items():
            model, _, _, root = origins[origin]
            self.roots[root] += count
            self.models.add(model)
        first = self._added
        self._added += len(lines)
        wanted = {*range(first, min(_SAMPLES, self._added)), *range(-first % _SAMPLED + first, self._added, _SAMPLED)}
        self.samples += [lines[number - first] for number in sorted(wanted)]
        self._latest.extend(lines[-_SAMPLES:])

    def _take(self, lines: Sequence[Line | Record], places: Sequence[int]) -> list[int]:
        """Add to the columns; returns the number of each line's origin."""
        columns, known = self._columns, self._origins
        columns.keys += b"".join(digests([line.key for line in lines]))
        # Written out here, where a call for each of a million lines takes as long as the rest.
        columns.sizes.extend([_ABSENT if line.bytes is None else line.bytes for line in lines])
        columns.times.extend([_ABSENT if line.mtime_us is None else line.mtime_us for line in lines])
        columns.errors.extend([0 if line.error is None else _error_hash(line.error) for line in lines])
        origins = [
            known.setdefault((line.model, line.preprocess, line.decoding, line.root), len(known)) for line in lines
        ]
        for model, preprocess, decoding, _ in islice(known, len(self._group_of), None):
            self._group_of.append(self._groups.setdefault((model, preprocess, decoding), len(self._groups)))
        named = [self._group_of[origin] for origin in origins]
        columns.states.extend(
            [
                group * _GROUP
                + (_HASHED if line.sha256 else 0)
                + (_CAPTIONED if line.error is None else _outcome(line.error))
                for group, line in zip(named, lines, strict=True)
            ]
        )
        if self.contents is not None:
            ours = [group == 0 and line.error is None for group, line in zip(named, lines, strict=True)]
            self.contents.add(compress(lines, ours), compress(places, ours))
        return origins

    def seal(self) -> None:
        """From now on the lines added, and the records noted by `finish`, are what the journal says; none is seen."""
        self._table = self._table.followed_by(self._columns)
        self._columns = Columns()
        if self.contents is not None:
            self.contents.seal()
        self._seen = bytearray(len(self._table))
        self._done = self._need_no_work()
        self._new = 0
        unique = {line.key: line for line in (*self.samples, *self._latest) if self._is_sample(line)}
        self.samples = list(unique.values())
        self._latest.clear()

    def _is_sample(self, line: Line) -> bool:
        if is_absolute(line.path):
            return False
        row = self.find(line.key)
        table = self._table
        return row is not None and bool(
            table.sizes[row] == _number(line.bytes) and table.times[row] == _number(line.mtime_us)
        )

    def _need_no_work(self) -> NDArray[np.bool_]:
        """[rows] whether a record is finished, if its file has not changed."""
        done: NDArray[np.bool_] = self._settled[self._table.states % _OUTCOMES]
        if not self._keep:
            done &= self._table.states < _GROUP
        return done

    def next_pass(self) -> None:
        """`seal`; what was to be tried again has been tried."""
        self._settled[_READ_ERROR + 1 :] = True
        self.seal()

    @property
    def count(self) -> int:
        """How many images are done, if their files have not changed; those of `finish` among them."""
        return int(np.count_nonzero(self._done)) + self._new

    def finish(self, record: Record, place: int | None) -> None:
        """Note a record of this run, at most one an image, and the byte at which its line begins.

        None: it was not written, since the journal held it already.
        """
        if place is not None:
            self._take((record,), (place,))
        if _outcome(record.error) == _READ_ERROR:
            return
        row = self.find(record.key)
        if row is None:
            self._new += 1
        else:
            self._done[row] = True

    def others(self) -> list[tuple[Fingerprint, int]]:
        """Other fingerprints under which captions stand, with the number of captions; errors do not count."""
        names = {group: Fingerprint(*name) for name, group in self._groups.items()}
        states = self._table.states
        foreign = states[(states >= _GROUP) & (states % _OUTCOMES == _CAPTIONED)] // _GROUP
        counts = Counter(sorted(foreign.tolist()))
        return [(names[group], count) for group, count in counts.most_common()]

    def find(self, key: Key) -> int | None:
        """The row of a key, or None."""
        row = int(self._table.find([digest(key)])[0])
        return None if row < 0 else row

    def look_up(self, refs: Sequence[ImageRef], names: Sequence[bytes]) -> list[Standing]:
        """What the journal says of images whose keys have the digests ``names``: many at once cost a third each."""
        rows = self._table.find(names)
        if not len(self._table):
            return [Standing(row, is_done=False, failed="") for row in rows.tolist()]
        states = self._table.states[rows]
        outcomes = states % _OUTCOMES
        # An image that could not even be looked at is never known to be unchanged.
        sizes = np.array([_ABSENT if ref.failure else ref.size for ref in refs])
        same = (self._table.sizes[rows] == sizes) & (self._table.times[rows] == [ref.mtime_us for ref in refs])
        ours, captioned = states < _GROUP, outcomes == _CAPTIONED
        stays = same
        if self.contents is not None:  # a caption without a hash gets one
            stays = same & ~(ours & captioned & (states % _GROUP < _HASHED))
        if self._skip_changed:
            stays |= ~same & captioned
        done = stays & self._settled[outcomes] & (rows >= 0)
        if not self._keep:
            done &= ours
        failed = map(_FAILED_AS.__getitem__, outcomes.tolist())
        return list(map(Standing, rows.tolist(), done.tolist(), failed))

    def mark_seen(self, row: int) -> bool:
        """Note that this run has seen the image of a row; whether it had seen it before."""
        before = self._seen[row]
        self._seen[row] = True
        return bool(before)

    @property
    def unseen(self) -> int:
        """How many images of the journal this run has not seen."""
        return self._seen.count(0)

    def is_seen(self, line: Line) -> bool:
        """Whether this run has seen the image of a line of the journal."""
        row = self.find(line.key)
        return row is None or bool(self._seen[row])

    def is_retry(self, ref: ImageRef) -> bool:
        """Whether the record of this image is an error that this run tries again."""
        row = self.find(ref.key)
        if row is None:
            return False
        outcome = self._table.states[row] % _OUTCOMES
        return bool(outcome != _CAPTIONED and not self._settled[outcome])

    def failed_alike(self, record: Record) -> bool:
        """Whether the journal's record of the image is the same error, of this file or of an earlier one."""
        row = self.find(record.key)
        if row is None or self._table.states[row] % _OUTCOMES == _CAPTIONED:
            return False
        return bool(self._table.errors[row] == _error_hash(record.error))

    def is_ours(self, record: Record) -> bool:
        """Whether the record was made under this run's fingerprint."""
        return self._groups.get((record.model, record.preprocess, record.decoding)) == 0

    def holds(self, record: Record) -> bool:
        """Whether writing an error would add nothing to what the journal says of the image.

        The journal's record of it is the very same error; or it is a caption of this very file, which just cannot be
        read now: a caption stays valid while its disk is not mounted.
        """
        if record.error is None:
            return False
        row = self.find(record.key)
        if row is None:
            return False
        table = self._table
        size, mtime_us = _number(record.bytes), _number(record.mtime_us)
        same_file = bool(table.sizes[row] == size and table.times[row] == mtime_us)
        if table.states[row] % _OUTCOMES == _CAPTIONED and record.error.stage == "read":
            return same_file or (size, mtime_us) == (0, 0)
        return bool(
            same_file
            and table.states[row] < _GROUP
            and table.states[row] % _OUTCOMES == _outcome(record.error)
            and table.errors[row] == _error_hash(record.error)
        )
