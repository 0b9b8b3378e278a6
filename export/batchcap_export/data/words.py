"""The words of captions: how a caption becomes words, the vocabulary of a data set, and captions as token ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import DataError
from batchcap_export.data.splits import CaptionedImages

PADDING, START, END, UNKNOWN = "<pad>", "<start>", "<end>", "<unk>"
SPECIAL = (PADDING, START, END, UNKNOWN)
_NOT_A_WORD = re.compile(r"[^\w\s']|_")
_STRAY_APOSTROPHE = re.compile(r"'(?!\w)|(?<=')'")


def standardize(text: str) -> list[str]:
    """Words of a caption: lower case, punctuation blanked, apostrophes kept where a letter follows (``'s``).

    The same words are learnt, counted and scored.
    """
    return _STRAY_APOSTROPHE.sub(" ", _NOT_A_WORD.sub(" ", text.lower())).split()


def build_vocabulary(references: Iterable[Sequence[str]], min_count: int) -> Vocabulary:
    """Special tokens (padding is 0), then every word seen at least ``min_count`` times, most frequent first."""
    counts = Counter(word for texts in references for text in texts for word in standardize(text))
    kept = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
    if not kept:
        raise DataError(f"No word occurs {min_count} times.", "Lower --min-count.")
    return Vocabulary((*SPECIAL, *kept))


@dataclass(frozen=True, slots=True)
class Sequences:
    """Captions as token ids, one row a caption."""

    image: NDArray[np.int32]
    """[N] index of the image."""
    tokens: NDArray[np.int32]
    """[N, T + 1]: ``<start>``, words, ``<end>``, padding."""


def encode_captions(data: CaptionedImages, vocabulary: Vocabulary, max_length: int) -> Sequences:
    """Every caption of every image; words beyond ``max_length`` are cut, unknown ones become ``<unk>``."""
    ids = {word: i for i, word in enumerate(vocabulary.words)}
    unknown, start, end = ids[UNKNOWN], ids[START], ids[END]
    image, rows = [], []
    for index, texts in enumerate(data.references):
        for text in texts:
            words = [ids.get(w, unknown) for w in standardize(text)[:max_length]]
            image.append(index)
            rows.append([start, *words, end])
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, values in zip(tokens, rows, strict=True):
        row[: len(values)] = values
    return Sequences(np.asarray(image, np.int32), tokens)
