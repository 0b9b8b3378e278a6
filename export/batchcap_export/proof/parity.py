"""Proof that a bundle computes what its original computes: tensors within rounding, captions token for token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.detokenizer import Text
from batchcap.bundle.token_lookup import banned_tokens
from batchcap.errors import ExportError
from batchcap.reporting import Say
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.sessions import open_sessions
from batchcap_export.data.comparison import check_count
from batchcap_export.model.beams import gather_beams
from batchcap_export.model.caption_model import CaptionModel, Runnable
from batchcap_export.proof.reference import ReferenceCaption, reference_captions

TIE = 1e-4
_RELATIVE = 1e-3
_BEAMS = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a tensor of the bundle is from the model's."""

    tensor: str
    absolute: float
    """Largest absolute difference."""
    relative: float
    """The same, divided by the largest magnitude in the model's tensor."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What was compared and found."""

    tensors: tuple[Difference, ...]
    images: int
    distinct: int
    """Different captions among them."""
    identical: int
    ties: int
    """Captions that differ where the model's own search had no clear choice (gap below 1e-4)."""
    log_prob: float
    """Largest absolute difference of log_prob among identical captions."""
    decoding: str

    def summary(self) -> str:
        """One line for a person."""
        worst = max(self.tensors, key=lambda d: d.relative)
        return (
            f"{self.identical} of {self.images} captions identical token for token ({self.distinct} distinct, "
            f"{self.ties} ties below {TIE:g}), log_prob within {self.log_prob:.1e}, "
            f"tensors within {worst.relative:.1e} ({worst.tensor})"
        )


def check_parity(
    model: CaptionModel,
    bundle: Bundle,
    pixels: NDArray[Any],
    say: Say,
    min_distinct: float = 0.5,
) -> Parity:
    """Compare a bundle, run by the runtime itself, with the original of the model it was made from.

    Args:
        pixels: [N, H, W, 3] as the bundle's preprocessing makes them; N >= 64.
        say: gets a line for every caption that differs by a tie.
        min_distinct: this share of the captions must differ from each other, or their equality proves too little.

    Raises:
        ExportError: fewer images, too few different captions, a tensor too far off, or a caption that differs without
            a tie.
    """
    check_count(len(pixels))
    original = model.original or model
    tensors = _compare_tensors(original, bundle, pixels[:8])
    for difference in tensors:
        if not difference.relative <= _RELATIVE:
            raise ExportError(
                f"Parity: {difference.tensor} differs by {difference.absolute:.3g} ({difference.relative:.3g} of its "
                f"largest value, {_RELATIVE:g} is the limit)."
            )
    tokens = bundle.manifest.tokens
    decoding = decoding_options(bundle.manifest, search="beam", beam_size=_BEAMS, num_captions=1)
    banned = banned_tokens(bundle, decoding)
    expected = reference_captions(original, pixels, decoding, tokens.start, tokens.end, banned)
    runtime = Captioner(bundle.with_text(Text()), decoding, choose_device("cpu"))
    texts = [bundle.vocabulary.detokenize(e.tokens) for e in expected]
    captions = []
    for start in range(0, len(pixels), 32):
        part = pixels[start : start + 32]
        captions += [best[0] for best in runtime.caption_pixels(_padded(part, 32), len(part))]
    ties, furthest = _judge(expected, texts, captions, say)
    distinct = len(set(texts))
    if distinct < min_distinct * len(pixels):
        raise ExportError(
            f"Parity: only {distinct} of {len(pixels)} captions are distinct, so that equality proves little.",
            "Give more varied images (--images), train longer, or ask for less: --min-distinct 0.1.",
        )
    return Parity(tensors, len(pixels), distinct, len(pixels) - ties, ties, furthest, decoding.label)


def _padded(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    return np.concatenate([pixels, np.zeros((size - len(pixels), *pixels.shape[1:]), pixels.dtype)])


def _judge(
    expected: Sequence[ReferenceCaption], texts: Sequence[str], captions: Sequence[Any], say: Say
) -> tuple[int, float]:
    ties, furthest = 0, 0.0
    for index, (want, text, got) in enumerate(zip(expected, texts, captions, strict=True)):
        if got.caption == text:
            furthest = max(furthest, abs(got.log_prob - want.log_prob))
            continue
        ties += 1
        line = (
            f"image {index}: {got.caption!r} ({got.score:.6f}), the model: {text!r} ({want.score:.6f}), "
            f"gap {want.gap:.1e}"
        )
        if want.gap >= TIE:
            raise ExportError(f"Parity: {line}.", "The converted graphs do not compute what the model computes.")
        say(f"tie, {line}")
    return ties, furthest


def _compare_tensors(original: Runnable, bundle: Bundle, pixels: NDArray[Any]) -> tuple[Difference, ...]:
    """The encoder's outputs that both have, then three decoder steps over the whole vocabulary."""
    encoder, decoder = open_sessions(bundle, choose_device("cpu"))
    states, memories = original.encode(tf.constant(pixels))
    features = encoder(pixels)
    given = {n: t if isinstance(t, np.ndarray) else t.numpy() for n, t in features.tensors.items()}
    wanted = {f"state.{n}": np.asarray(s)[:, None] for n, s in states.items()}
    wanted |= {f"memory.{n}": np.asarray(m) for n, m in memories.items()}
    out = [_difference(f"encoder {name}", want, given[name]) for name, want in wanted.items() if name in given]
    words = len(bundle.vocabulary)
    stepper = decoder.start(features)
    state = {name: s[:, None] for name, s in states.items()}
    token = np.full((len(pixels), 1), bundle.manifest.tokens.start, np.int64)
    parent = np.zeros_like(token)
    for name in ("first step log_prob", "second step log_prob", "third step log_prob"):
        chosen = {n: gather_beams(s, tf.constant(parent)) for n, s in state.items()}
        logits, state, _ = original.step(tf.constant(token), chosen, memories)
        want = np.asarray(tf.nn.log_softmax(logits))
        got = stepper.step(token, parent, candidates=words)
        by_word = np.empty_like(want)
        np.put_along_axis(by_word, got.next_token, got.log_prob, axis=-1)
        out.append(_difference(name, want, by_word))
        # One beam, then three from one, then three that cross over.
        parent = np.tile(np.roll(np.arange(_BEAMS), 1), (len(pixels), 1)) % token.shape[1]
        token = np.argsort(-want[:, 0], axis=-1)[:, :_BEAMS].astype(np.int64)
    return tuple(out)


def _difference(tensor: str, want: NDArray[Any], got: NDArray[Any]) -> Difference:
    if want.shape != got.shape:
        raise ExportError(f"Parity: {tensor} has the shape {got.shape}, the model's has {want.shape}.")
    absolute = float(np.abs(want - got).max(initial=0.0))
    return Difference(tensor, absolute, absolute / max(float(np.abs(want).max(initial=0.0)), 1e-6))
