"""Files to batches of pixels: a bounded pool of threads, the order kept, failures as values.

Decoding and resizing release the interpreter lock, so threads use all cores. Each image has its row in a batch buffer
before a thread takes it; the buffers are used again once the consumer releases a batch.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from batchcap.errors import ImageError, OutOfMemoryError
from batchcap.images import files
from batchcap.images.budget import Budget
from batchcap.images.decode import decode_image, salvage_image
from batchcap.images.opening import give_memory_back, peek_cost
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import Preprocess
from batchcap.images.resize import Pixels
from batchcap.records import Failure, ImageRef, Key, Record
from batchcap.system.cores import usable_cores

# What the threads may hold of decoded images, and of files, a thread. An image over the whole budget goes alone.
_DECODED_BYTES_A_WORKER: Final = 256 * 2**20
_FILE_BYTES_A_WORKER: Final = 64 * 2**20
# From here on the C library is asked to return the memory of an image before others may take as much.
_LARGE: Final = 64 * 2**20
# Batches that are being filled while the consumer works on one: one may finish while the next is not yet asked for.
_BATCHES_AHEAD: Final = 2
# Images that failed before they were read need no row. A batch of nothing else must end too.
_MOST_REFS_A_ROW: Final = 8


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that has its row in the batch."""

    width: int
    """Columns of the image as it stands upright."""
    height: int
    """Rows of the image as it stands upright."""
    damaged: str | None = None
    """What is wrong with an image that was captioned although it is damaged."""


@dataclass(frozen=True, slots=True)
class Known:
    """An image whose content has a record already: it was read and not decoded."""

    record: Record
    """What is to be written of it."""


Outcome: TypeAlias = Loaded | Known | Failure

DecodingContext: TypeAlias = Callable[[ImageRef, int], AbstractContextManager[None]]
"""Called in a thread with an image and the bytes of memory that decoding it takes; the image is decoded within."""
Recall: TypeAlias = Callable[[ImageRef, str], Record | None]
"""Called in a thread with an image and the SHA-256 of its file: its record, where its content has one already."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Images that go through the model together, and those that failed among them."""

    refs: tuple[ImageRef, ...]
    """Every image of the batch in order, failed ones too."""
    outcomes: tuple[Outcome, ...]
    """One for each ref, in the same order."""
    pixels: Pixels
    """[batch_size, H, W, 3]: the good images in order fill rows 0..count-1; the rest is padding, zeros or stale."""
    count: int
    """Number of good images; may be 0."""
    hashes: tuple[str | None, ...]
    """[refs] SHA-256 of each file as hex digits; None where it was not asked for, or the file could not be read."""
    seconds: float
    """Time that the threads spent reading, decoding and resizing this batch, summed."""
    _home: deque[Pixels] = field(default_factory=deque, repr=False)
    _lent: list[Pixels] = field(default_factory=list, repr=False)

    @property
    def good_keys(self) -> list[Key]:
        """The keys of the good images, in order."""
        pairs = zip(self.refs, self.outcomes, strict=True)
        return [ref.key for ref, outcome in pairs if isinstance(outcome, Loaded)]

    def release(self) -> None:
        """Hand the pixels back for reuse: they change from now on. A second call does nothing."""
        if self._lent:
            self._home.append(self._lent.pop())


@dataclass(slots=True)
class _Draft:
    """A batch whose images are on their way."""

    pixels: Pixels
    refs: list[ImageRef] = field(default_factory=list)
    results: list[Failure | Future[_Filled]] = field(default_factory=list)


class _Filled(NamedTuple):
    """What became of one image."""

    outcome: Outcome
    seconds: float
    sha256: str | None


class _Loader:
    """What the threads share."""

    def __init__(
        self,
        how: Preprocess,
        workers: int,
        *,
        accept_damaged: bool,
        decoding: DecodingContext | None,
        recall: Recall | None,
    ) -> None:
        self.how = how
        self.accept_damaged = accept_damaged
        self.decoding: DecodingContext = decoding or (lambda _ref, _cost: nullcontext())
        self.recall = recall
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="batchcap-load")
        # Two budgets, always taken in this order and given back in the other, cannot block each other.
        self.files = Budget(workers * _FILE_BYTES_A_WORKER)
        self.decoded = Budget(workers * _DECODED_BYTES_A_WORKER)

    def submit(self, ref: ImageRef, row: Pixels) -> Future[_Filled]:
        return self.pool.submit(self._fill, ref, row)

    def close(self, seconds: float | None, begun: Iterable[Future[Any]]) -> None:
        """Return when the last thread has ended, or after ``seconds``.

        The images of ``begun`` that a thread works on are finished, the others dropped.
        """
        self.files.close()
        self.decoded.close()
        self.pool.shutdown(wait=seconds is None, cancel_futures=True)
        if seconds is not None:
            wait([each for each in begun if each.running()], seconds)

    def _fill(self, ref: ImageRef, row: Pixels) -> _Filled:
        """Runs in a thread: file to row."""
        watch = _Stopwatch()
        try:
            return _Filled(self._load(ref, row, watch), watch.seconds, watch.sha256)
        except ImageError as error:
            failure = _failure(error)
        except OSError as error:
            failure = Failure.from_os_error(error)
        except MemoryError:
            # The machine's fault, not the image's: stage read, so that a later run tries again.
            failure = Failure("read", "memory", "not enough memory to load it")
        return _Filled(failure, watch.seconds, watch.sha256)

    def _load(self, ref: ImageRef, row: Pixels, watch: _Stopwatch) -> Loaded | Known:
        if ref.pixels is not None:
            with watch:
                row[...] = preprocess(ref.pixels, self.how)
            return Loaded(ref.pixels.shape[1], ref.pixels.shape[0])
        with files.opened(ref.file) as (stream, size), self.files.hold(size):
            with watch:
                data = files.read(stream, size)
                if self.recall is not None:
                    watch.sha256 = hashlib.sha256(data).hexdigest()
                    if (record := self.recall(ref, watch.sha256)) is not None:
                        return Known(record)
                cost = peek_cost(data)
            with self.decoded.hold(cost), self.decoding(ref, cost), watch:
                loaded = self._pixels(data, row)
                if cost >= _LARGE:
                    give_memory_back()
        return loaded

    def _pixels(self, data: bytes, row: Pixels) -> Loaded:
        damaged = None
        try:
            image = decode_image(data, self.how.jpeg_dct)
        except ImageError as error:
            damaged = _failure(error)
        if damaged is not None:  # here, where the error does not hold the first try's memory any more
            image = self._salvaged(data, damaged)
        row[...] = preprocess(image, self.how)
        return Loaded(image.shape[1], image.shape[0], damaged.message if damaged else None)

    def _salvaged(self, data: bytes, damaged: Failure) -> NDArray[np.uint8]:
        """What can be decoded of a damaged image, if that is wanted; raises its error where nothing can."""
        if self.accept_damaged and damaged.may_be_accepted:
            with suppress(ImageError):
                return salvage_image(data, self.how.jpeg_dct)
        raise ImageError(damaged.stage, damaged.kind, damaged.message)


def _failure(error: ImageError) -> Failure:
    return Failure("read" if error.stage == "read" else "decode", error.kind, error.message)


class _Stopwatch:
    """Seconds inside its ``with`` blocks, however they end: work counts, waiting for memory does not."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sha256: str | None = None
        """Of the file that was read meanwhile."""
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


def load(
    refs: Iterable[ImageRef],
    how: Preprocess,
    batch_size: int,
    workers: int = 0,
    *,
    accept_damaged: bool = False,
    decoding: DecodingContext | None = None,
    recall: Recall | None = None,
    closing_seconds: float | None = None,
) -> Generator[Batch, None, None]:
    """Read, decode and resize images in threads, a few batches ahead of the consumer.

    A batch covers `batch_size` images that could be read so far; where some of them turn out broken it has fewer good
    rows, and the order of the refs is kept. Memory is bounded by the buffers of the batches on their way and by budgets
    for files and decoded images, so huge images are worked on one after the other instead of all at once.

    Args:
        refs: the images; taken only as far as needed.
        how: the bundle's preprocessing; ``pixels`` is the type of the batches.
        batch_size: rows of a batch.
        workers: threads; 0: one for each core this process may use.
        accept_damaged: take what can be decoded of truncated and damaged images; `Loaded.damaged` says so.
        decoding: makes the context in which an image is decoded.
        recall: has every file hashed, and knows the images that need no caption by that.
        closing_seconds: how long closing the generator waits for threads that are at work: one that reads from a disk
            that does not answer may never end. None: until they have ended.

    Yields:
        Batches in the order of ``refs``. Call `Batch.release` when done with the pixels; the consumer may hold as many
        as it likes, and those not released are simply not used again. Closing the generator ends the threads.

    Raises:
        OutOfMemoryError: the batches find no memory.
    """
    workers = workers or usable_cores()
    ahead = max(_BATCHES_AHEAD, -(-2 * workers // batch_size))
    shape = (batch_size, how.height, how.width, 3)
    free: deque[Pixels] = deque(maxlen=ahead + 3)
    source = iter(refs)
    drafts: deque[_Draft] = deque()
    loader = _Loader(how, workers, accept_damaged=accept_damaged, decoding=decoding, recall=recall)
    try:
        while True:
            while len(drafts) <= ahead and (first := next(source, None)) is not None:
                drafts.append(_draft(chain((first,), source), loader, _buffer(free, shape, how)))
            if not drafts:
                return
            batch = _finish(drafts[0], free)
            drafts.popleft()
            yield batch
    finally:
        loader.close(closing_seconds, [each for draft in drafts for each in draft.results if isinstance(each, Future)])


def _buffer(free: deque[Pixels], shape: tuple[int, ...], how: Preprocess) -> Pixels:
    try:
        return free.popleft()
    except IndexError:
        pass
    try:
        return np.zeros(shape, np.float32) if how.pixels == "float32" else np.zeros(shape, np.uint8)
    except MemoryError as error:
        what = f"There is too little memory for the pixels of batches of {shape[0]:,} images ({error})."
        raise OutOfMemoryError(what, "Use a smaller --batch-size.") from error


def _draft(refs: Iterable[ImageRef], loader: _Loader, pixels: Pixels) -> _Draft:
    """Give the next images their rows and send them to the threads. Takes no ref that it does not use."""
    draft = _Draft(pixels)
    row = 0
    for ref in refs:
        draft.refs.append(ref)
        if ref.failure is not None:
            draft.results.append(ref.failure)
        else:
            draft.results.append(loader.submit(ref, pixels[row]))
            row += 1
        if row == len(pixels) or len(draft.refs) == _MOST_REFS_A_ROW * len(pixels):
            break
    return draft


def _finish(draft: _Draft, free: deque[Pixels]) -> Batch:
    """Wait for the images of a batch and close the gaps that those without pixels left."""
    filled: list[_Filled] = []
    count, row = 0, 0
    for result in draft.results:
        if isinstance(result, Failure):
            filled.append(_Filled(result, 0.0, None))
            continue
        filled.append(result.result())
        if isinstance(filled[-1].outcome, Loaded):
            if row != count:
                draft.pixels[count] = draft.pixels[row]
            count += 1
        row += 1
    outcomes, seconds, hashes = zip(*filled, strict=True)
    return Batch(tuple(draft.refs), outcomes, draft.pixels, count, hashes, sum(seconds), free, [draft.pixels])
