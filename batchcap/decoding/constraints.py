"""Token constraints: forced first tokens, banned tokens, a least length, no n tokens twice, and a most length."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from batchcap.decoding.request import SearchRequest
from batchcap.decoding.types import Ids


def most_forbidden(request: SearchRequest) -> int:
    """How many tokens besides ``<end>`` can be forbidden at once for one hypothesis, before ``max_length``.

    A hypothesis of m tokens holds m - n + 1 runs of n tokens, and each forbids one token at most.
    """
    options = request.options
    runs = options.max_length - options.no_repeat_ngram + 1 if options.no_repeat_ngram else 0
    return len(set(request.banned)) + max(0, runs)


class TokenConstraints:
    """Which tokens may follow the living hypotheses of a batch."""

    def __init__(self, request: SearchRequest) -> None:
        options = request.options
        self._prefix, self._end = tuple(request.prefix), request.end
        self._min_length, self._max_length = options.min_length, options.max_length
        self._ngram = options.no_repeat_ngram
        self._not_banned = np.ones(request.vocabulary_size, bool)
        self._not_banned[[*request.banned, request.end]] = False
        self._not_banned_or_end = self._not_banned.copy()
        self._not_banned_or_end[request.end] = True
        self._tokens: Ids | None = None

    def forced(self, words: int) -> bool:
        """Whether what follows hypotheses of ``words`` tokens is a token of the prefix."""
        return words < len(self._prefix)

    def one_choice(self, words: int) -> bool:
        """Whether one token alone may follow, which can be the last of the whole vocabulary: forced, or the end."""
        return self.forced(words) or words == self._max_length

    def allowed(self, next_token: Ids, words: int) -> NDArray[np.bool_]:
        """[B, K, C] whether each of ``next_token`` [B, K, C] may follow hypotheses of ``words`` tokens."""
        if self.forced(words):
            return np.asarray(next_token == self._prefix[words])
        if words == self._max_length:
            return np.asarray(next_token == self._end)
        table = self._not_banned_or_end if words >= self._min_length else self._not_banned
        allowed: NDArray[np.bool_] = table[next_token]
        if self._tokens is not None and self._ngram <= words:
            allowed &= ~_repeats(self._tokens, self._ngram, next_token)
        return allowed

    def record(self, token: Ids, parent: Ids) -> None:
        """Each beam took one more token [B, K], from the beam ``parent`` [B, K] of the step before."""
        if self._ngram:
            newest = token[:, :, None]
            if self._tokens is None:
                self._tokens = newest
            else:
                before = self._tokens[np.arange(len(parent))[:, None], parent]
                self._tokens = np.concatenate((before, newest), axis=2)

    def select(self, rows: NDArray[np.intp]) -> None:
        """Go on with these images only."""
        if self._tokens is not None:
            self._tokens = self._tokens[rows]


def _repeats(tokens: Ids, n: int, next_token: Ids) -> NDArray[np.bool_]:
    """[B, K, C] whether ``next_token`` would end n tokens that ``tokens`` [B, K, words >= n] holds already."""
    runs = sliding_window_view(tokens, n, axis=2)
    last = tokens[:, :, None, tokens.shape[2] - n + 1 :]
    begun = (runs[..., :-1] == last).all(axis=3)
    again = begun[..., None] & (runs[..., -1:] == next_token[:, :, None, :])
    return np.asarray(again.any(axis=2))
