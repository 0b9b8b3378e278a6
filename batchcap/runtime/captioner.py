"""Images to captions: encoder, search and vocabulary behind one object. `Captioner` is batchcap as a library."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.decoding.driver import search
from batchcap.decoding.types import Hypothesis, Stepper
from batchcap.errors import BundleError, OptionError, OutOfMemoryError
from batchcap.images import loader
from batchcap.images.resize import Pixels
from batchcap.options.decoding import Decoding, DecodingOptions
from batchcap.options.field import check_types
from batchcap.options.precision import WantedPrecision
from batchcap.options.run import RunOptions, check_batch_size, check_threads
from batchcap.options.types import checked
from batchcap.records import Caption, Failure, Fingerprint, Key
from batchcap.runtime.caption_text import CaptionWriter
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device import Device
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.image_inputs import Image, check_several, image_ref
from batchcap.runtime.onnx_session import out_of_memory
from batchcap.runtime.precision_choice import in_precision
from batchcap.runtime.random_streams import random_streams
from batchcap.runtime.search_request import search_request
from batchcap.runtime.sessions import open_sessions


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """What became of one image given to `Captioner.caption`."""

    path: str | None
    """The file; None for an array."""
    captions: tuple[Caption, ...]
    """Best first; empty where the image failed."""
    failure: Failure | None = None
    """Why there is no caption."""
    tokens: tuple[tuple[int, ...], ...] = ()
    """The tokens of each of ``captions``, ``<end>`` not among them: ``bundle.vocabulary.words[token]`` is its word."""
    attention: tuple[NDArray[np.float32], ...] | None = field(default=None, compare=False, repr=False)
    """Where it was asked for: for each of ``captions`` float32 [T, R], the weights of R regions at each of T tokens.

    ``bundle.manifest.attention_grid`` has the rows and columns of the regions, which lie row by row. They divide what
    the model saw: all of the image where ``preprocess.fit`` is ``stretch``. The
    weights of one token sum to 1 where a softmax gave them.
    """
    damaged: str | None = None
    """What is wrong with an image that was captioned although it is damaged."""


class Captioner:
    """A model on a device, ready to caption.

    Example::

        from batchcap import Captioner

        captioner = Captioner.load("flickr8k-small", num_captions=2)
        for image in captioner.caption(["beach.jpg", "dog.png"]):
            if image.failure:
                print(image.path, "failed:", image.failure.message)
            for caption in image.captions:
                print(image.path, caption.caption, round(caption.score, 2))

    Attributes:
        bundle: the model's files.
        decoding: how captions are chosen.
        device: what the model runs on.
        batch_size: images that go through the model together.
        reduced_batch: images that go through the model together since memory ran out; None while all of a batch do.
        seconds: time spent so far, ``{"encode": ..., "search": ...}``; a decoder's steps are part of the search.
        watch: given the stepper of each batch, returns the one to search with; `bench` times steps with it.
    """

    def __init__(
        self, bundle: Bundle, decoding: DecodingOptions, device: Device, batch_size: int = 32, *, threads: int = 0
    ) -> None:
        batch_size, threads = check_batch_size(batch_size), check_threads(threads)
        self._request = search_request(bundle, decoding, batch_size)
        self.bundle, self.decoding, self.device, self.batch_size = bundle, decoding, device, batch_size
        self.reduced_batch: int | None = None
        self.seconds = {"encode": 0.0, "search": 0.0}
        self.watch: Callable[[Stepper], Stepper] = lambda stepper: stepper
        self._write = CaptionWriter(bundle, decoding)
        self._threads = threads
        self._open()

    @classmethod
    def load(
        cls,
        model: str | Path = "flickr8k-small",
        device: str = "auto",
        batch_size: int = 32,
        *,
        precision: WantedPrecision = "auto",
        threads: int = 0,
        **chosen: Unpack[Decoding],
    ) -> Captioner:
        """Open a bundle on a device.

        Args:
            model: the name of an embedded bundle, or the folder of one.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            batch_size: images that go through the model together. Captions do not depend on it.
            precision: ``auto``, ``fp32``, ``fp16`` or ``int8``: see `in_precision`.
            threads: threads on the CPU, at most 1024; 0 is one a core.
            chosen: see `Decoding`; what is left out, or None, is the bundle's own default.

        Raises:
            BundleError: no such bundle, or one that is not in order.
            DeviceError: a demanded GPU cannot be used.
            OptionError: an option has a value that cannot work.
        """
        batch_size, threads = check_batch_size(batch_size), check_threads(threads)
        checked_options = check_types(RunOptions, {"model": model, "device": device, "precision": precision})
        model, device, precision = checked_options.values()
        bundle = open_bundle(model)
        decoding = decoding_options(bundle.manifest, **chosen)
        on = choose_device(device)
        return cls(in_precision(bundle, precision, on), decoding, on, batch_size, threads=threads)

    @property
    def fingerprint(self) -> Fingerprint:
        """Everything besides the image that decides its caption."""
        return Fingerprint(model=self.bundle.label, preprocess="exact", decoding=self.decoding.label)

    def caption(
        self, images: Iterable[Image], *, attention: bool = False, accept_damaged: bool = False
    ) -> Iterator[CaptionedImage]:
        """Caption files and arrays, one result an image, in order.

        Images are captioned in batches of ``batch_size``, files and arrays together. Some batches are read ahead, so
        the first result comes when about three batches have been taken; an array must not change until then. A file
        that cannot be read or decoded, and what is no regular file, gives a result with ``failure``; it stops nothing.

        A sampled caption depends on the seed and the path as it is given; for an array on its place among ``images``.

        Args:
            images: paths of image files, or uint8 RGB arrays [height, width, 3]; lazily, in any mixture.
            attention: the results carry attention weights.
            accept_damaged: caption what can be decoded of truncated and damaged images; ``damaged`` says so.

        Raises:
            OptionError: something that is neither a path nor such an array, one image that is not in a list, or a
                model without attention was asked for it.
            OutOfMemoryError: too little memory for one image alone.
            DeviceError: the device was lost.
        """
        for name, switch in (("attention", attention), ("accept_damaged", accept_damaged)):
            checked(name, switch, bool)
        self._check(attention)
        check_several(images)
        refs = (image_ref(index, image) for index, image in enumerate(images))
        how = self.bundle.manifest.preprocess
        with closing(loader.load(refs, how, self.batch_size, accept_damaged=accept_damaged)) as batches:
            for batch in batches:
                found = iter(self.hypotheses(batch.pixels, batch.count, batch.good_keys, attention=attention))
                batch.release()
                for ref, outcome in zip(batch.refs, batch.outcomes, strict=True):
                    path = ref.file if ref.pixels is None else None
                    if isinstance(outcome, loader.Loaded):
                        yield self._captioned(path, outcome.damaged, next(found))
                    elif isinstance(outcome, Failure):
                        yield CaptionedImage(path, (), outcome)

    def caption_pixels(
        self, pixels: Pixels, count: int, keys: Sequence[Key] | None = None
    ) -> list[tuple[Caption, ...]]:
        """Caption a batch that is already preprocessed: `hypotheses` in words.

        Args:
            pixels: [B, H, W, 3] of the bundle's size and pixel type.
            count: the first rows that are images; the others are padding.
            keys: the names of the ``count`` images, which with the seed decide what is sampled; None numbers them.

        Returns:
            For each of the ``count`` images its captions, best first.

        Raises:
            OutOfMemoryError: too little memory for one image alone.
            DeviceError: the device was lost.
            BundleError: what the decoder gives are no log-probabilities.
        """
        return [_captions(self._write(best)) for best in self.hypotheses(pixels, count, keys)]

    def hypotheses(
        self, pixels: Pixels, count: int, keys: Sequence[Key] | None = None, *, attention: bool = False
    ) -> list[list[Hypothesis]]:
        """Search the captions of a batch that is already preprocessed.

        Where memory runs out, half as many images go through the model together, from then on: see `reduced_batch`.

        Args:
            pixels: [B, H, W, 3] of the bundle's size and pixel type.
            count: the first rows that are images; the others are padding. A GPU is fed all B rows, since a new shape
                costs it a search for algorithms; the CPU is fed ``count``.
            keys: the names of the ``count`` images, which with the seed decide what is sampled; None numbers them.
            attention: the hypotheses carry attention weights [T, R]; see `CaptionedImage`.

        Returns:
            For each of the ``count`` images its captions in tokens, best first.

        Raises:
            OptionError: a model without attention was asked for it.
            OutOfMemoryError: too little memory for one image alone.
            DeviceError: the device was lost.
            BundleError: what the decoder gives are no log-probabilities.
        """
        if not hasattr(self, "_encoder"):  # the last time there was no memory to open it again
            self._open()
        self._check(attention)
        streams = self._streams(count, keys)
        found: list[list[Hypothesis]] = []
        while len(found) < count:
            part = self._part(pixels, len(found), count)
            images = min(len(part), count - len(found))
            best = self._tried(part, images, streams[len(found) :][:images], attention=attention)
            if best is None:
                self._halve(len(part))
            else:
                found += best
        return found

    def _tried(
        self, pixels: Pixels, count: int, streams: list[int], *, attention: bool
    ) -> list[list[Hypothesis]] | None:
        """As `_search`; None where memory ran out. By then the error, which held some of it, is gone."""
        try:
            return self._search(pixels, count, streams, attention=attention)
        except MemoryError as error:
            if self.reduced_batch == 1:
                raise _not_even_one(self.device, error) from error
        return None

    def _halve(self, images: int) -> None:
        """From now on half as many images go through the model together.

        The sessions are opened anew: what a session has taken for a larger batch it would keep, and another one lack.
        """
        self.reduced_batch = max(1, images // 2)
        del self._encoder, self._decoder
        self._open()

    def _open(self) -> None:
        sparing = self.reduced_batch is not None
        self._encoder, self._decoder = open_sessions(self.bundle, self.device, self._threads, sparing=sparing)

    def _streams(self, count: int, keys: Sequence[Key] | None) -> list[int]:
        """The random stream of each image; none where nothing is drawn."""
        if self.decoding.search != "sample":
            return []
        return list(range(count)) if keys is None else random_streams(keys, count)

    def _part(self, pixels: Pixels, first: int, count: int) -> Pixels:
        """[P, H, W, 3] what goes through the model next: from row ``first`` on, on a GPU always as many rows."""
        size = min(self.reduced_batch or len(pixels), len(pixels))
        if self.device.kind == "cpu":
            return pixels[first : min(first + size, count)]
        part = pixels[first : first + size]
        missing = np.zeros((size - len(part), *pixels.shape[1:]), pixels.dtype)
        return np.concatenate((part, missing)) if len(missing) else part

    def _search(self, pixels: Pixels, count: int, streams: list[int], *, attention: bool) -> list[list[Hypothesis]]:
        """The captions of the first ``count`` rows; all rows go through the model together."""
        started = time.perf_counter()
        features = self._encoder(pixels)
        encoded = time.perf_counter()
        request = replace(
            self._request,
            images=features.images,
            streams=[*streams, *(0 for _ in range(features.images - len(streams)))],
            pruning=self._decoder.pruning,
            attention=attention,
        )
        found = search(self.watch(self._decoder.start(features)), request)[:count]
        if any(not h.finished and not h.tokens for best in found for h in best):
            raise BundleError(
                f"{self.bundle.decoder_path}: allows no first word of an image.",
                "Its log-probabilities are no log-softmax: export the model again.",
            )
        self.seconds["encode"] += encoded - started
        self.seconds["search"] += time.perf_counter() - encoded
        return found

    def _check(self, attention: bool) -> None:
        if attention and not self._decoder.has_attention:
            what = f"{self.bundle.label} gives no attention weights."
            raise OptionError(what, "Only a model whose manifest has an attention_grid does.")

    def _captioned(self, path: str | None, damaged: str | None, best: Sequence[Hypothesis]) -> CaptionedImage:
        written = self._write(best)
        weights = [h.attention for h in written.values() if h.attention is not None]
        attention = tuple(weights) if weights else None
        tokens = tuple(h.tokens for h in written.values())
        return CaptionedImage(path, _captions(written), None, tokens, attention, damaged)


def _not_even_one(device: Device, error: MemoryError) -> OutOfMemoryError:
    known = error if isinstance(error, OutOfMemoryError) else out_of_memory(device, error)
    return OutOfMemoryError(f"{known.message} Not even one image fits.", known.fix)


def _captions(written: dict[str, Hypothesis]) -> tuple[Caption, ...]:
    return tuple(Caption(text, h.log_prob, h.score) for text, h in written.items())
