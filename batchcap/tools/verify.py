"""`batchcap verify`: what must hold of a bundle, checked again: its files, and what its graphs compute.

Every check is made with the graphs as they are, without the model that they were converted from; that comparison needs
TensorFlow and stands in the export stage (`batchcap_export.exporting.origin`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchcap.bundle.bundle import Bundle, file_problems, open_bundle, read_manifest
from batchcap.bundle.files import LoopError
from batchcap.decoding.driver import search
from batchcap.decoding.types import Hypothesis, Ids, StepOutput
from batchcap.errors import BatchcapError, BundleError, ImageError, NoImagesError
from batchcap.images import discovery, files
from batchcap.images.decode import decode_image
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import Preprocess
from batchcap.images.resize import Pixels
from batchcap.options.decoding import DecodingOptions
from batchcap.options.precision import Precision
from batchcap.records import ImageRef
from batchcap.runtime.decoder import Decoder
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.search_request import search_request
from batchcap.runtime.sessions import open_sessions
from batchcap.tools.comparison import COMPARED_IMAGES

_GENERATED: Final = 8
_BATCHES: Final = (16, 5)
# How far the sum of a next-token distribution may be from 1.
_SUM: Final = 1e-4
# How far log_prob may move with the batch composition. Measured: 1e-5 at most; a number that is stored in 16 or 8 bits
# may be rounded the other way, and then moves further.
_DRIFT: Final[dict[Precision, float]] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 2e-2}
# Distributions that differ by less (natural log-probability) are the same one.
_SAME: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    name: str
    passed: bool
    result: str
    """The figure; where it does not hold, what is wrong."""


@dataclass(frozen=True, slots=True)
class _Samples:
    """What is captioned."""

    pixels: Pixels
    """[N, H, W, 3]."""
    described: str


class _Model:
    """The graphs of one precision, and every distribution that they gave."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.words = len(bundle.vocabulary)
        self.encoder, self.decoder = open_sessions(bundle, choose_device("cpu"))
        self.sum_error = 0.0
        """The largest distance from 1 of the sum of a distribution."""

    def walk(self, pixels: Pixels, steps: Sequence[tuple[Ids, Ids]]) -> list[NDArray[np.float32]]:
        """The distribution after each (tokens [B, K], parents [B, K]): log-probabilities [B, K, V] by word.

        Raises:
            BundleError: what comes out is no distribution over the vocabulary.
        """
        stepper = self.decoder.start(self.encoder(pixels))
        return [
            self.by_word(stepper.step(token, parent, candidates=self.words), token.shape) for token, parent in steps
        ]

    def by_word(self, out: StepOutput, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """What a step over the whole vocabulary gave, as log-probabilities [B, K, V] by word, and checked."""
        path, wanted = self.bundle.decoder_path, (*shape, self.words)
        for name, tensor in (("log_prob", out.log_prob), ("next_token", out.next_token)):
            if tensor.shape != wanted:
                raise BundleError(f"{path}: `{name}` has the shape {list(tensor.shape)}, not {list(wanted)}.")
        if not np.array_equal(np.sort(out.next_token, axis=-1), np.broadcast_to(np.arange(self.words), wanted)):
            raise BundleError(f"{path}: `next_token` does not name every word once.")
        if (np.diff(out.log_prob, axis=-1) > 0).any():
            raise BundleError(f"{path}: `log_prob` does not come best first.")
        total = np.exp(out.log_prob.astype(np.float64)).sum(axis=-1)
        self.sum_error = max(self.sum_error, float(np.abs(total - 1).max()))
        by_word = np.empty_like(out.log_prob)
        np.put_along_axis(by_word, out.next_token, out.log_prob, axis=-1)
        return by_word


def verify(model: str | Path, images: Path | None = None) -> Iterator[Check]:
    """Check a bundle, one thing after the other; a check whose conditions do not hold is left out.

    Args:
        model: the name of an embedded bundle, or a bundle's folder.
        images: a folder; its first 64 images are captioned. None: a few generated ones are.

    Raises:
        InputNotFoundError: there is no such folder.
        NoImagesError: it holds no image that can be decoded.
    """
    found = list(islice(discovery.discover([images]), COMPARED_IMAGES)) if images is not None else None
    try:
        folder, manifest, _ = read_manifest(model)
    except BundleError as error:
        yield Check("manifest", False, str(error))
        return
    yield Check("manifest", True, f"{manifest.name} {manifest.version}, format {manifest.format_version}")
    problems = list(file_problems(folder, manifest))
    yield from (Check("loops" if isinstance(p, LoopError) else "files", False, str(p)) for p in problems)
    if problems:
        return
    total = sum(entry.bytes for entry in manifest.files.values())
    yield Check("files", True, f"{len(manifest.files)} files, {total:,} bytes, SHA-256 as listed")
    try:
        bundle = open_bundle(model)
    except BundleError as error:
        yield Check("vocabulary", False, str(error))
        return
    words, tokens = bundle.vocabulary.words, manifest.tokens
    ends = f"starts with {words[tokens.start]}, ends with {words[tokens.end]}"
    yield Check("vocabulary", True, f"{len(words):,} words, {ends}")
    how = manifest.preprocess
    samples = _generated(how) if found is None else _decoded(found, how)
    precisions: tuple[Precision, ...] = ("fp32", *bundle.variants)
    for precision in precisions:
        prefix = "" if precision == "fp32" else f"{precision} "
        for check in _graph_checks(bundle.at(precision), samples):
            yield Check(prefix + check.name, check.passed, check.result)


def _generated(how: Preprocess) -> _Samples:
    """Soft coloured patches."""
    random = np.random.default_rng(0)
    patches = random.integers(0, 256, (_GENERATED, 8, 8, 3)).astype(np.uint8)
    pixels = [preprocess(np.repeat(np.repeat(patch, 32, axis=0), 32, axis=1), how) for patch in patches]
    return _Samples(np.stack(pixels).astype(how.pixels), f"{_GENERATED} generated images")


def _decoded(found: Sequence[ImageRef], how: Preprocess) -> _Samples:
    pixels, broken = [], 0
    for ref in found:
        try:
            pixels.append(preprocess(decode_image(files.read_file(ref.file), how.jpeg_dct), how))
        except (ImageError, OSError):
            broken += 1
    if not pixels:
        raise NoImagesError("--images: none of the images can be decoded.", "Name a folder with images.")
    left_out = f", {broken} that cannot be decoded left out" if broken else ""
    return _Samples(np.stack(pixels).astype(how.pixels), f"{len(pixels)} images{left_out}")


def _graph_checks(bundle: Bundle, samples: _Samples) -> Iterator[Check]:
    """What must hold of one pair of graphs."""
    try:
        model = _Model(bundle)
    except BatchcapError as error:
        yield Check("tensors", False, str(error))
        return
    yield Check("tensors", True, "named, typed and shaped as the contract says")
    yield Check("loops", True, "none: no Loop, Scan or If")  # or the bundle would not have been opened
    try:
        yield from _step_checks(model)
        yield from _caption_checks(model, samples)
    except BatchcapError as error:
        yield Check("runs", False, str(error))
        return
    passed = model.sum_error <= _SUM
    yield Check(
        "probabilities", passed, f"each next-token distribution sums to 1 within {model.sum_error:.1e} (limit {_SUM:g})"
    )


def _step_checks(model: _Model) -> Iterator[Check]:
    """What a step must look at: the image, the words before the last one, and the beam that it continues."""
    tokens = model.bundle.manifest.tokens
    pixels = _generated(model.bundle.manifest.preprocess).pixels
    start, root = np.full((len(pixels), 1), tokens.start, np.int64), np.zeros((len(pixels), 1), np.int64)
    first = model.walk(pixels, [(start, root)])[0]
    yield Check("runs", True, "encoder and decoder")
    by_image = _distance(first, first[:1])
    yield Check("images", by_image > _SAME, f"first words of other images differ by up to {by_image:.2g}")
    # Two different words, and then the same one after either: each alone, and as two beams that change places.
    two = np.argsort(-first[:, 0], axis=-1)[:, :2].astype(np.int64)
    same = two[:, :1]
    alone = [
        model.walk(pixels, [(start, root), (word[:, None], root), (same, root)])[-1] for word in (two[:, 0], two[:, -1])
    ]
    by_past = _distance(alone[0], alone[1])
    yield Check("state", by_past > _SAME, f"other words before the last one change the next by up to {by_past:.2g}")
    both, back = np.repeat(same, 2, axis=1), np.tile(np.array([1, 0]), (len(two), 1))
    taken = np.stack((two[:, 0], two[:, -1]), axis=1)
    crossed = model.walk(pixels, [(start, root), (taken, np.zeros_like(taken)), (both, back)])[-1]
    off = _distance(crossed, np.concatenate(alone[::-1], axis=1))
    passed = off <= _DRIFT[model.bundle.precision]
    yield Check("parents", passed, f"beams that change places go on as they would alone, within {off:.1e}")
    by_graph = model.decoder.with_select_graph()
    if by_graph is not None:
        yield _select_check(model, by_graph, pixels, start, same)


def _select_check(model: _Model, by_graph: Decoder, pixels: Pixels, start: Ids, following: Ids) -> Check:
    """Images that stay when `select.onnx` prunes others from the batch, as on a GPU, give the same distributions."""
    root, stay = np.zeros_like(start), np.arange(len(pixels))[::-2]
    whole = model.walk(pixels, [(start, root), (following, root)])[-1]
    stepper = by_graph.start(model.encoder(pixels))
    stepper.step(start, root, candidates=model.words)
    stepper.select(stay)
    left = model.by_word(stepper.step(following[stay], root[stay], candidates=model.words), (len(stay), 1))
    off = _distance(left, whole[stay])
    return Check(
        "select", off <= _DRIFT[model.bundle.precision], f"where images leave the others go on, within {off:.1e}"
    )


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The largest difference of log-probabilities; probabilities below e^-20 count as equal."""
    return float(np.abs(np.maximum(one, -20) - np.maximum(other, -20)).max())


def _caption_checks(model: _Model, samples: _Samples) -> Iterator[Check]:
    """Whole captions: the same in any batch, and as probable as the search says."""
    manifest, pixels = model.bundle.manifest, samples.pixels
    decoding = decoding_options(manifest, search="beam", num_captions=1)
    size, small = _BATCHES
    large = _captions(model, pixels, decoding, size)
    others = {
        "batches": (_captions(model, pixels, decoding, small), f"in batches of {size} and {small}"),
        "order": (_captions(model, pixels[::-1], decoding, size)[::-1], "in reverse order"),
    }
    limit = _DRIFT[model.bundle.precision]
    for name, (found, what) in others.items():
        apart = [abs(one.log_prob - other.log_prob) for one, other in zip(large, found, strict=True)]
        # Two captions that are equally good may change places.
        changed = sum(
            one.tokens != other.tokens and not abs(one.score - other.score) < _SUM
            for one, other in zip(large, found, strict=True)
        )
        passed = changed == 0 and max(apart) <= limit
        yield Check(name, passed, f"{changed} of {samples.described} captioned otherwise {what}, {_within(apart)}")
    again = [_rescored(model, pixels[i : i + 1], hypothesis) for i, hypothesis in enumerate(large)]
    apart = [abs(hypothesis.log_prob - log_prob) for hypothesis, log_prob in zip(large, again, strict=True)]
    distinct = len({hypothesis.tokens for hypothesis in large})
    what = f"{samples.described}, {distinct} different captions, each word by itself"
    yield Check("log_prob", max(apart) <= limit, f"{what}: {_within(apart)}")


def _within(apart: Sequence[float]) -> str:
    return f"log_prob within {max(apart):.1e}"


def _captions(model: _Model, pixels: Pixels, decoding: DecodingOptions, size: int) -> list[Hypothesis]:
    """The best caption of each image, ``size`` at a time."""
    best = []
    for first in range(0, len(pixels), size):
        features = model.encoder(pixels[first : first + size])
        request = search_request(model.bundle, decoding, features.images, pruning=model.decoder.pruning)
        found = search(model.decoder.start(features), request)
        best += [hypotheses[0] for hypotheses in found]
    return best


def _rescored(model: _Model, pixels: Pixels, hypothesis: Hypothesis) -> float:
    """log_prob of a caption by forcing its tokens, the image [1, H, W, 3] alone and with one beam."""
    tokens = model.bundle.manifest.tokens
    said = [*hypothesis.tokens, tokens.end] if hypothesis.finished else [*hypothesis.tokens]
    given = [tokens.start, *said][: len(said)]
    root = np.zeros((1, 1), np.int64)
    rows = model.walk(pixels, [(np.array([[token]], np.int64), root) for token in given])
    return float(sum(float(row[0, 0, token]) for row, token in zip(rows, said, strict=True)))
