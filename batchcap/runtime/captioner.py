"""Images to captions: encoder, search and vocabulary behind one object. `Captioner` is batchcap as a library."""

from __future__ import annotations

import difflib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.bundle.detokenizer import Detokenizer, sentence
from batchcap.bundle.manifest import Manifest
from batchcap.bundle.token_lookup import banned_tokens, prefix_tokens, read_words
from batchcap.decoding.im2txt import printed
from batchcap.decoding.search import Hypothesis, candidates_needed, search
from batchcap.decoding.types import Step
from batchcap.errors import BundleError, OptionError
from batchcap.images import loader
from batchcap.images.files import look
from batchcap.images.resize import Pixels
from batchcap.options.decoding import Decoding, DecodingOptions, has_beam, largest_penalty
from batchcap.options.field import check_types
from batchcap.options.precision import Precision, WantedPrecision, check_precision
from batchcap.options.run import RunOptions, check_batch_size, check_threads
from batchcap.options.types import checked
from batchcap.records import Caption, Failure, Fingerprint, ImageRef, Key
from batchcap.runtime.sessions import Device, choose_device, open_sessions

Image: TypeAlias = str | Path | NDArray[np.uint8]
"""A file, or a picture: uint8 RGB [height, width, 3], upright."""


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
    the model saw: all of the picture where ``preprocess.fit`` is ``stretch``. A softmax makes each line sum to 1.
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
        seconds: time spent so far, ``{"encode": ..., "search": ...}``; a decoder's steps are part of the search.
        watch: given the decoder of each batch, gives the one to search with: whoever measures steps puts a clock here.
    """

    def __init__(
        self, bundle: Bundle, decoding: DecodingOptions, device: Device, batch_size: int = 32, *, threads: int = 0
    ) -> None:
        batch_size, threads = check_batch_size(batch_size), check_threads(threads)
        self._banned, self._prefix = banned_tokens(bundle, decoding), prefix_tokens(bundle, decoding)
        self.bundle, self.decoding, self.device, self.batch_size = bundle, decoding, device, batch_size
        self.seconds = {"encode": 0.0, "search": 0.0}
        self.watch: Callable[[Step], Step] = lambda stepper: stepper
        unknown, text = bundle.manifest.tokens.unknown, bundle.manifest.text
        self._detokenize = Detokenizer(bundle.vocabulary.words, text, () if unknown is None else (unknown,))
        self._encoder, self._decoder = open_sessions(bundle, device, threads)

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
        told = check_types(RunOptions, {"model": model, "device": device, "precision": precision})
        model, device, precision = told.values()
        bundle = open_bundle(model)
        decoding = decoding_options(bundle.manifest, **chosen)
        on = choose_device(device)
        return cls(in_precision(bundle, precision, on), decoding, on, batch_size, threads=threads)

    @property
    def fingerprint(self) -> Fingerprint:
        """Everything besides the picture that decides its caption."""
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
            images: paths of picture files, or uint8 RGB arrays [height, width, 3]; lazily, in any mixture.
            attention: the results carry attention weights.
            accept_damaged: caption what can be decoded of truncated and damaged images; ``damaged`` says so.

        Raises:
            OptionError: something that is neither a path nor such an array, one picture that is not in a list, or a
                model without attention was asked for it.
            DeviceError: too little memory for the batch, or the device was lost.
        """
        for name, switch in (("attention", attention), ("accept_damaged", accept_damaged)):
            checked(name, switch, bool)
        self._check(attention)
        _check_several(images)
        refs = (_reference(index, image) for index, image in enumerate(images))
        how = self.bundle.manifest.preprocess
        with closing(loader.load(refs, how, self.batch_size, accept_damaged=accept_damaged)) as batches:
            for batch in batches:
                found = iter(self.hypotheses(batch.pixels, batch.count, good_keys(batch), attention=attention))
                batch.release()
                for ref, outcome in zip(batch.refs, batch.outcomes, strict=True):
                    path = ref.file if ref.pixels is None else None
                    if isinstance(outcome, Failure):
                        yield CaptionedImage(path, (), outcome)
                    else:
                        yield self._captioned(path, outcome.damaged, next(found))

    def caption_pixels(
        self, pixels: Pixels, count: int, keys: Sequence[Key] | None = None
    ) -> list[tuple[Caption, ...]]:
        """Caption a batch that is already preprocessed: `hypotheses` in words.

        Args:
            pixels: [B, H, W, 3] of the bundle's size and pixel type.
            count: the first rows that are pictures; the others are padding.
            keys: the names of the ``count`` pictures, which with the seed decide what is sampled; None numbers them.

        Returns:
            For each of the ``count`` pictures its captions, best first.

        Raises:
            DeviceError: too little memory for the batch, or the device was lost.
            BundleError: what the decoder gives are no log-probabilities.
        """
        return [_captions(self._written(best)) for best in self.hypotheses(pixels, count, keys)]

    def hypotheses(
        self, pixels: Pixels, count: int, keys: Sequence[Key] | None = None, *, attention: bool = False
    ) -> list[list[Hypothesis]]:
        """Search the captions of a batch that is already preprocessed.

        Args:
            pixels: [B, H, W, 3] of the bundle's size and pixel type.
            count: the first rows that are pictures; the others are padding. A GPU is fed all B rows, since a new shape
                costs it a search for algorithms; the CPU is fed ``count``.
            keys: the names of the ``count`` pictures, which with the seed decide what is sampled; None numbers them.
            attention: the hypotheses carry attention weights [T, R]; see `CaptionedImage`.

        Returns:
            For each of the ``count`` pictures its captions in tokens, best first.

        Raises:
            OptionError: a model without attention was asked for it.
            DeviceError: too little memory for the batch, or the device was lost.
            BundleError: what the decoder gives are no log-probabilities.
        """
        self._check(attention)
        if count == 0:
            return []
        started = time.perf_counter()
        features = self._encoder(pixels if self.device.kind == "cuda" else pixels[:count])
        encoded = time.perf_counter()
        size = len(self.bundle.vocabulary)
        stepper = self.watch(self._decoder.start(features, candidates_needed(self.decoding, size, self._banned)))
        tokens = self.bundle.manifest.tokens
        found = search(
            stepper,
            features.images,
            self.decoding,
            start=tokens.start,
            end=tokens.end,
            vocabulary_size=size,
            banned=self._banned,
            prefix=self._prefix,
            streams=self._streams(keys, features.images),
            leaving=self._decoder.leaving,
            attention=attention,
        )
        if any(not h.finished and not h.tokens for best in found[:count] for h in best):
            raise BundleError(
                f"{self.bundle.decoder_path}: allows no first word of an image.",
                "Its log-probabilities are no log-softmax: export the model again.",
            )
        self.seconds["encode"] += encoded - started
        self.seconds["search"] += time.perf_counter() - encoded
        return found[:count]

    def _check(self, attention: bool) -> None:
        if attention and not self._decoder.has_attention:
            what = f"{self.bundle.label} gives no attention weights."
            raise OptionError(what, "Only a model whose manifest has an attention_grid does.")

    def _captioned(self, path: str | None, damaged: str | None, best: Sequence[Hypothesis]) -> CaptionedImage:
        written = self._written(best)
        weights = [h.attention for h in written.values() if h.attention is not None]
        attention = tuple(weights) if weights else None
        tokens = tuple(h.tokens for h in written.values())
        return CaptionedImage(path, _captions(written), None, tokens, attention, damaged)

    def _written(self, found: Iterable[Hypothesis]) -> dict[str, Hypothesis]:
        """Text and hypothesis, best first, each text once: tokens that differ may be written alike."""
        written: dict[str, Hypothesis] = {}
        for hypothesis in map(printed, found) if self.decoding.search == "im2txt" else found:
            said = self._detokenize(hypothesis.tokens)
            written.setdefault(sentence(said) if self.decoding.style == "sentence" else said, hypothesis)
        return written

    def _streams(self, keys: Sequence[Key] | None, images: int) -> list[int] | None:
        """The random stream of each row: its name's SHA-256; padding has none of its own."""
        if keys is None or self.decoding.search != "sample":
            return None
        return [*map(_stream, keys), *(0 for _ in range(images - len(keys)))]


def decoding_options(manifest: Manifest, **chosen: Unpack[Decoding]) -> DecodingOptions:
    """How to search: what was chosen, and the bundle's own default wherever nothing was (None).

    A beam chosen without a search is beam search where the bundle's own search has none. Beam search chosen for such a
    bundle has the usual beam; and no search takes over a length_penalty beyond its own limit.

    Raises:
        OptionError: a value that cannot work, alone or with another.
    """
    own = manifest.generation
    given = _given(chosen)
    if "search" not in given:
        given["search"] = "beam" if "beam_size" in given and not has_beam(own.search) else own.search
    if not has_beam(given["search"]):
        given.setdefault("beam_size", 1)
    elif has_beam(own.search):
        given.setdefault("beam_size", own.beam_size)
    given.setdefault("max_length", own.max_length)
    given.setdefault("length_penalty", min(own.length_penalty, largest_penalty(given["search"])))
    if "ban_file" in given:
        given["ban"] = (*given.get("ban", ()), *read_words(given.pop("ban_file")))
    return DecodingOptions(**given)


def _given(chosen: Mapping[str, object]) -> dict[str, Any]:
    """What was chosen, without None, in the type of its option."""
    for name, value in chosen.items():
        if name not in Decoding.__annotations__:
            near = difflib.get_close_matches(name, Decoding.__annotations__)
            fix = f"Near ones: {', '.join(near)}." if near else f"There are {', '.join(Decoding.__annotations__)}."
            raise OptionError(f"{name}={value!r}: no such option.", fix)
    given = {name: value for name, value in chosen.items() if value is not None}
    files = {"ban_file": checked("ban_file", given.pop("ban_file"), Path)} if "ban_file" in given else {}
    return check_types(DecodingOptions, given) | files


def in_precision(bundle: Bundle, wanted: WantedPrecision, device: Device) -> Bundle:
    """The bundle with the graphs that are to run.

    ``auto`` is fp16 on a GPU where the bundle has it; on a CPU it is int8 where the manifest says that this is
    equivalent; else fp32.

    Raises:
        OptionError: no such precision, or the bundle has no such graphs.
    """
    check_precision(wanted)
    if wanted != "auto":
        return bundle.at(wanted)
    variants = bundle.variants
    chosen: Precision = "fp32"
    if device.kind == "cuda" and "fp16" in variants:
        chosen = "fp16"
    elif device.kind == "cpu" and "int8" in variants and variants["int8"].equivalent:
        chosen = "int8"
    return bundle.at(chosen)


def _check_several(images: object) -> None:
    if isinstance(images, str | bytes | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim == 3):
        raise OptionError("One picture stands where several are taken.", "Give a list of it: [picture].")
    if not isinstance(images, Iterable) or (isinstance(images, np.ndarray) and images.ndim == 0):
        raise OptionError(f"images={images!r}: holds no images.", "Give a list of paths or arrays.")


def _captions(written: dict[str, Hypothesis]) -> tuple[Caption, ...]:
    return tuple(Caption(said, h.log_prob, h.score) for said, h in written.items())


def good_keys(batch: loader.Batch) -> list[Key]:
    """The names of a batch's pictures that could be decoded."""
    return [
        ref.key for ref, outcome in zip(batch.refs, batch.outcomes, strict=True) if not isinstance(outcome, Failure)
    ]


def _stream(key: Key) -> int:
    path, member = key
    name = path if member is None else f"{path}\0{member}"
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "little")


def _reference(index: int, image: object) -> ImageRef:
    """A reference to an array, or to a file that may not exist, or be none: then with its failure.

    Raises:
        OptionError: it is neither.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            what = f"An array {image.dtype} {list(image.shape)} is no picture."
            raise OptionError(what, "Give uint8 [height, width, 3].")
        # No file has an empty path, so that no array has a file's name.
        return ImageRef(path="", file="", size=0, mtime_us=0, member=str(index), pixels=image)
    if not isinstance(image, str | os.PathLike):
        raise OptionError(f"{type(image).__name__} is no picture.", "Give paths, or uint8 arrays [height, width, 3].")
    file = os.fsdecode(image)
    size, mtime_us, failure, _, _ = look(file)
    return ImageRef(path=file, file=file, size=size, mtime_us=mtime_us, failure=failure)
