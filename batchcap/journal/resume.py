"""The resume index: what a journal already holds, 40 bytes an image, and the decision whether an image is done.

Rules: the last line of a key is its record. A caption is done while the file's size and time and the fingerprint are
the same. An error of stage ``read`` is never done; one of stage ``decode`` is done while the file is the same, unless
it is a damaged image and these are accepted now. A damaged image that has a caption keeps it. What
failed was the image and not the model, so an error made under another fingerprint never stops a run: it is tried
again, or left alone where other fingerprints are kept.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchcap.journal.codec import Line, replace_surrogates
from batchcap.records import Failure, Fingerprint, ImageRef, Key, Record
from batchcap.roots import is_absolute

_CAPTIONED: Final = 0
_READ_ERROR: Final = 1
_DECODE_ERROR: Final = 2
_DAMAGED: Final = 3
_OUTCOMES: Final = 4
_ABSENT: Final = -(2**63)
_DIGEST: Final = 16
# The first and the last so many lines, and of those between one in so many.
_SAMPLES: Final = 100
_SAMPLED: Final = 10_000


def digest(key: Key) -> bytes:
    """16 bytes of BLAKE2b over a key: two names share one with a probability of 1e-23 among 50 million."""
    path, member = key
    # The length keeps ("a:b", None) and ("a", "b") apart.
    text = f"{len(path)}:{path}" if member is None else f"{len(path)}:{path}:{member}"
    try:
        data = text.encode()
    except UnicodeEncodeError:  # as the formats write it
        data = replace_surrogates(text).encode()
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


def _outcome(error: Failure | None) -> int:
    if error is None:
        return _CAPTIONED
    if error.stage == "read":
        return _READ_ERROR
    return _DAMAGED if error.may_be_accepted else _DECODE_ERROR


def _error_hash(error: Failure | None) -> int:
    return 0 if error is None else hash((error.stage, error.kind, error.message))


def _number(value: int | None) -> int:
    return _ABSENT if value is None else value


class ResumeIndex:
    """What a journal says of every image: `add` every line, `seal`, then ask.

    Columns of plain numbers, sorted by digest once: a dict of the same would take four times the memory.
    """

    def __init__(
        self,
        fingerprint: Fingerprint,
        *,
        keep: bool = False,
        retry_errors: bool = False,
        accept_damaged: bool = False,
    ) -> None:
        self.size = 0
        """Bytes of the journal that hold the lines added, its header included; counted by who reads it."""
        self.lacks_end = False
        """The last line is whole, but has no line end; noted by who reads it."""
        self._keep = keep
        # Outcomes that are done while the file is the same.
        settled = {_CAPTIONED}
        if not retry_errors:
            settled |= {_DECODE_ERROR} if accept_damaged else {_DECODE_ERROR, _DAMAGED}
        self._settled = tuple(settled)
        # Group 0 is this run's fingerprint, the others are numbered as they come.
        self._groups = {(fingerprint.model, fingerprint.preprocess, fingerprint.decoding): 0}
        self.roots: Counter[str | None] = Counter()
        """The folders that paths are relative to, with the number of lines; None: the line does not say."""
        self.models: set[str] = set()
        """The labels of all models that made a line, errors too."""
        self.samples: list[Line] = []
        """Some lines with relative paths, from the whole file; once sealed, only those that are the record of their
        image."""
        self._latest: deque[Line] = deque(maxlen=_SAMPLES)
        self._digests = bytearray()
        self._columns = (array("q"), array("q"), array("q"), array("i"))

    def add(self, line: Line) -> None:
        """Take the next line of the journal; it replaces an earlier one of the same key."""
        sizes, times, errors, states = self._columns
        group = self._groups.setdefault((line.model, line.preprocess, line.decoding), len(self._groups))
        self._digests += digest(line.key)
        sizes.append(_number(line.bytes))
        times.append(_number(line.mtime_us))
        errors.append(_error_hash(line.error))
        states.append(group * _OUTCOMES + _outcome(line.error))
        self.roots[line.root] += 1
        self.models.add(line.model)
        if not is_absolute(line.path):
            if len(states) <= _SAMPLES or len(states) % _SAMPLED == 0:
                self.samples.append(line)
            self._latest.append(line)

    def seal(self) -> None:
        """Sort, and keep the last line of every key."""
        digests = np.frombuffer(self._digests, f"S{_DIGEST}")
        order = np.argsort(digests, kind="stable")
        digests = digests[order]
        last = np.ones(len(digests), np.bool_)
        last[:-1] = digests[1:] != digests[:-1]
        rows = order[last]
        self._keys = digests[last]
        self._sizes, self._times, self._errors, states = (np.asarray(column)[rows] for column in self._columns)
        self._other = states >= _OUTCOMES
        self._outcomes = (states % _OUTCOMES).astype(np.int8)
        captions = states[self._other & (self._outcomes == _CAPTIONED)] // _OUTCOMES
        self._foreign = Counter(sorted(captions.tolist()))
        self._seen = np.zeros(len(rows), np.bool_)
        self._done = self._need_no_work()
        self._new = 0
        unique = {line.key: line for line in (*self.samples, *self._latest) if self._is_last(line)}
        self.samples = list(unique.values())
        self._latest.clear()
        self._digests = bytearray()
        self._columns = (array("q"), array("q"), array("q"), array("i"))

    def _is_last(self, line: Line) -> bool:
        row = self.find(digest(line.key))
        return row is not None and bool(
            self._sizes[row] == _number(line.bytes) and self._times[row] == _number(line.mtime_us)
        )

    def _need_no_work(self) -> NDArray[np.bool_]:
        """[rows] whether a record is finished, if its file has not changed."""
        done: NDArray[np.bool_] = np.isin(self._outcomes, self._settled)
        if not self._keep:
            done &= ~self._other
        return done

    @property
    def count(self) -> int:
        """How many images are done, if their files have not changed; those of `finish` among them."""
        return int(np.count_nonzero(self._done)) + self._new

    def finish(self, record: Record) -> None:
        """Note a record that this run has written; at most one an image."""
        if _outcome(record.error) == _READ_ERROR:
            return
        row = self.find(digest(record.key))
        if row is None:
            self._new += 1
        else:
            self._done[row] = True

    def others(self) -> list[tuple[Fingerprint, int]]:
        """Other fingerprints under which captions stand, with the number of captions; errors do not count."""
        names = {group: Fingerprint(*name) for name, group in self._groups.items()}
        return [(names[group], count) for group, count in self._foreign.most_common()]

    def find(self, name: bytes) -> int | None:
        """The row of a key, given as its `digest`, or None."""
        # A scalar would lose trailing zeros, take another type, and make NumPy copy the whole column.
        wanted = np.array([name], f"S{_DIGEST}")
        row = int(self._keys.searchsorted(wanted)[0])
        return row if row < len(self._keys) and self._keys[row] == wanted[0] else None

    def mark_seen(self, row: int) -> bool:
        """Note that this run has seen the image of a row; whether it had seen it before."""
        before = bool(self._seen[row])
        self._seen[row] = True
        return before

    def is_done(self, row: int, ref: ImageRef) -> bool:
        """Whether the record in ``row``, which has the key of ``ref``, needs no work."""
        # An image that could not even be looked at is never known to be unchanged.
        if ref.failure is not None or self._sizes[row] != ref.size or self._times[row] != ref.mtime_us:
            return False
        if self._other[row] and not self._keep:
            return False
        return int(self._outcomes[row]) in self._settled

    def is_failed(self, row: int) -> bool:
        """Whether the record in ``row`` has no caption."""
        return bool(self._outcomes[row] != _CAPTIONED)

    @property
    def unseen(self) -> int:
        """How many images of the journal this run has not seen."""
        return len(self._seen) - int(np.count_nonzero(self._seen))

    def is_seen(self, line: Line) -> bool:
        """Whether this run has seen the image of a line of the journal."""
        row = self.find(digest(line.key))
        return row is None or bool(self._seen[row])

    def is_retry(self, ref: ImageRef) -> bool:
        """Whether the record of this image is an error that this run tries again."""
        row = self.find(digest(ref.key))
        return row is not None and self.is_failed(row) and int(self._outcomes[row]) not in self._settled

    def failed_alike(self, record: Record) -> bool:
        """Whether the journal's record of the image is the same error, of this file or of an earlier one."""
        row = self.find(digest(record.key))
        return row is not None and self.is_failed(row) and bool(self._errors[row] == _error_hash(record.error))

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
        row = self.find(digest(record.key))
        if row is None:
            return False
        if self._outcomes[row] == _CAPTIONED and record.error.stage == "read":
            looked_at = (_number(record.bytes), _number(record.mtime_us))
            return looked_at in {(0, 0), (int(self._sizes[row]), int(self._times[row]))}
        return bool(
            not self._other[row]
            and self._outcomes[row] == _outcome(record.error)
            and self._errors[row] == _error_hash(record.error)
            and self._sizes[row] == _number(record.bytes)
            and self._times[row] == _number(record.mtime_us)
        )
