"""Which tokens may come next: forced first words, bans, a least number of words, and no n words in a row twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from batchcap.decoding.types import Ids
from batchcap.options.decoding import DecodingOptions


def most_banned(options: DecodingOptions, banned: Sequence[int]) -> int:
    """How many tokens besides ``<end>`` can be forbidden at once for one hypothesis.

    A hypothesis of m tokens holds m - n + 1 runs of n tokens, and each forbids one token at most.
    """
    runs = options.max_length - options.no_repeat_ngram + 1 if options.no_repeat_ngram else 0
    return len(set(banned)) + max(0, runs)


class Rules:
    """What the living hypotheses of a batch may say next.

    Args:
        options: its ``min_length`` and ``no_repeat_ngram``.
        vocabulary_size: V.
        end: the token that finishes a caption; a ban does not reach it.
        banned: tokens that captions must not hold.
        prefix: the first tokens of every caption, whatever else forbids them.
    """

    def __init__(
        self,
        options: DecodingOptions,
        vocabulary_size: int,
        end: int,
        banned: Sequence[int] = (),
        prefix: Sequence[int] = (),
    ) -> None:
        self._prefix = tuple(prefix)
        self._min_length, self._ngram = options.min_length, options.no_repeat_ngram
        self._words = np.ones(vocabulary_size, bool)
        self._words[[*banned, end]] = False
        self._words_and_end = self._words.copy()
        self._words_and_end[end] = True
        self._said: Ids | None = None

    def forced(self, words: int) -> bool:
        """Whether hypotheses of ``words`` tokens have no choice; what they must take may be the last of all V."""
        return words < len(self._prefix)

    def allowed(self, next_token: Ids, words: int) -> NDArray[np.bool_]:
        """[B, K, C] whether each of ``next_token`` [B, K, C] may follow hypotheses of ``words`` tokens."""
        if self.forced(words):
            return np.asarray(next_token == self._prefix[words])
        table = self._words_and_end if words >= self._min_length else self._words
        allowed: NDArray[np.bool_] = table[next_token]
        if self._said is not None and self._ngram <= words:
            allowed &= ~_repeats(self._said, self._ngram, next_token)
        return allowed

    def follow(self, token: Ids, parent: Ids) -> None:
        """Each beam took one more token [B, K], from the beam ``parent`` [B, K] of the step before."""
        if self._ngram:
            newest = token[:, :, None]
            if self._said is None:
                self._said = newest
            else:
                before = self._said[np.arange(len(parent))[:, None], parent]
                self._said = np.concatenate((before, newest), axis=2)

    def select(self, rows: NDArray[np.intp]) -> None:
        """Go on with these images only."""
        if self._said is not None:
            self._said = self._said[rows]


def _repeats(said: Ids, n: int, next_token: Ids) -> NDArray[np.bool_]:
    """[B, K, C] whether ``next_token`` would end n tokens that ``said`` [B, K, words >= n] holds already."""
    runs = sliding_window_view(said, n, axis=2)
    last = said[:, :, None, said.shape[2] - n + 1 :]
    begun = (runs[..., :-1] == last).all(axis=3)
    again = begun[..., None] & (runs[..., -1:] == next_token[:, :, None, :])
    return np.asarray(again.any(axis=2))
