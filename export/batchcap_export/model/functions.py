"""A captioner from two functions of TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from batchcap.bundle.detokenizer import Text
from batchcap.bundle.manifest import Generation, Tokens
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import ExportError
from batchcap.images.preprocess import Preprocess
from batchcap_export.data.words import PADDING
from batchcap_export.model.beams import beams_from_rows
from batchcap_export.model.caption_model import CaptionModel, Encode, Original, RowStep, Step
from batchcap_export.model.recurrent import without_loops


def caption_model(
    encode: Encode,
    step: RowStep | Step,
    vocabulary: Sequence[str] | Vocabulary,
    preprocess: Preprocess,
    *,
    start: str = "<start>",
    end: str = "<end>",
    unknown: str | None = "<unk>",
    padding: str | None = PADDING,
    beams: bool = False,
    grid: tuple[int, int] | None = None,
    generation: Generation | None = None,
    text: Text | None = None,
    architecture: str = "custom",
    parameters: int = 0,
    recipe: Mapping[str, Any] | None = None,
    original: Original | None = None,
) -> CaptionModel:
    """A captioner from two functions of TensorFlow.

    Args:
        encode: pixels [B, H, W, 3] of ``preprocess``'s type, 0..255 -> ({state: [B, ...]}, {memory: [B, ...]}): the
            states before the first word, and what every step reads. What comes before the first word belongs here.
        step: (tokens int64 [N], {state: [N, ...]}, {memory: [N, ...]}) -> (logits [N, V], {state: [N, ...]}) and, as
            a third value, attention [N, R] if there is any. One step, without a loop over a sequence; recurrent layers
            of Keras may be called on sequences of one word.
        vocabulary: the token of every id, special tokens included; an empty text for padding becomes ``<pad>``.
        preprocess: how an image becomes pixels: as the model was trained.
        start, end: the tokens before the first word and after the last.
        unknown, padding: tokens that no caption holds; the vocabulary may lack them.
        beams: ``step`` takes tokens [B, K], states [B, K, ...] and memories [B, ...], and returns three values. Without
            it the memory is copied for every beam, which costs time.
        grid: rows and columns of the regions that the attention weighs.
        generation: how the model captions best.
        text: how its words are written; None: with a space between.
        architecture, recipe: for the manifest.
        parameters: how many weights it has.
        original: what the bundle is compared with; None: ``encode`` and ``step`` as Keras runs them.

    Raises:
        ExportError: the vocabulary lacks a token, or holds a word twice.
    """
    words = vocabulary if isinstance(vocabulary, Vocabulary) else _vocabulary(vocabulary)
    on_beams = step if beams else beams_from_rows(step)
    return CaptionModel(
        encode=encode,
        step=without_loops(on_beams),
        vocabulary=words,
        tokens=special_tokens(words, start, end, unknown, padding),
        preprocess=preprocess,
        architecture=architecture,
        grid=grid,
        generation=generation or Generation(),
        text=text or Text(),
        parameters=parameters,
        recipe=dict(recipe or {}),
        original=original or Original(encode, on_beams),
        repeats_memory=not beams,
    )


def _vocabulary(words: Sequence[str]) -> Vocabulary:
    # Keras writes an empty text for padding, which no line of a vocabulary file can be.
    return Vocabulary(tuple(word or PADDING for word in words))


def special_tokens(
    vocabulary: Vocabulary, start: str, end: str, unknown: str | None = None, padding: str | None = None
) -> Tokens:
    """The ids of the special tokens; ``unknown`` and ``padding`` may be missing.

    Raises:
        ExportError: there is no ``start`` or ``end``.
    """
    known = set(vocabulary.words)
    for what, word in (("start", start), ("end", end)):
        if word not in known:
            looks = [w for w in vocabulary.words if not w[:1].isalnum() or what in w.lower()][:8]
            fix = f"Name it: --{what} TOKEN. Tokens that may be it: {', '.join(looks)}." if looks else ""
            raise ExportError(f"The vocabulary has no {what} token {word!r}.", fix or f"Name it: --{what} TOKEN.")

    def optional(word: str | None) -> int | None:
        return vocabulary.id_of(word) if word is not None and word in known else None

    return Tokens(
        start=vocabulary.id_of(start), end=vocabulary.id_of(end), unknown=optional(unknown), padding=optional(padding)
    )
