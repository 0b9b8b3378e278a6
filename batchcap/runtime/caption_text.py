"""Hypotheses as text."""

from __future__ import annotations

from collections.abc import Iterable

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.detokenizer import Detokenizer, sentence
from batchcap.decoding.im2txt import printed
from batchcap.decoding.types import Hypothesis
from batchcap.options.decoding import DecodingOptions


class CaptionWriter:
    """Writes what a search finds, in the words of a bundle and the style that was chosen."""

    def __init__(self, bundle: Bundle, decoding: DecodingOptions) -> None:
        unknown, text = bundle.manifest.tokens.unknown, bundle.manifest.text
        self._detokenize = Detokenizer(bundle.vocabulary.words, text, () if unknown is None else (unknown,))
        self._decoding = decoding

    def __call__(self, found: Iterable[Hypothesis]) -> dict[str, Hypothesis]:
        """Text and hypothesis in the order given, each text once: different tokens may give the same text."""
        written: dict[str, Hypothesis] = {}
        for hypothesis in map(printed, found) if self._decoding.search == "im2txt" else found:
            text = self._detokenize(hypothesis.tokens)
            written.setdefault(sentence(text) if self._decoding.style == "sentence" else text, hypothesis)
        return written
