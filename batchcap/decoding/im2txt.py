"""The search of the Show and Tell code (Vinyals et al., "Show and Tell: Lessons learned", 2016), for many images."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchcap.decoding.backpointers import Backpointers
from batchcap.decoding.constraints import most_forbidden
from batchcap.decoding.finished import FinishedHypotheses
from batchcap.decoding.request import SearchRequest
from batchcap.decoding.strategy import Continuation, ScoredStep
from batchcap.decoding.types import Floats, Hypothesis, Ids

# It takes the logarithm of no probability below this.
_LEAST: Final = float(np.log(1e-12))


class Im2txtSearch:
    """See `strategy.Strategy`.

    Each partial caption offers its K best next tokens. Those that end go into a heap of the K best completed ones; of
    the others the K best are the next partial ones. It makes ``max_length`` steps, the one that ends included, unless
    nothing is left. A completed caption scores log_prob / n ** length_penalty with ``<start>`` and ``<end>`` counted
    in n. Partial ones, which are used only where nothing completed, score log_prob. Ties keep the first found: that of
    the better partial caption, then the better token.
    """

    def __init__(self, request: SearchRequest) -> None:
        options = request.options
        self._beams, self._wanted, self._end = options.beam_size, options.num_captions, request.end
        self._length_penalty = options.length_penalty
        self.steps = options.max_length
        self.candidates = min(request.vocabulary_size, self._beams + 1 + most_forbidden(request))
        self._finished = FinishedHypotheses(request.images, self._beams)
        self._total = np.zeros((request.images, 1))

    def advance(self, step: ScoredStep) -> Continuation:
        """Complete and continue partial captions."""
        rows, words, finished = step.rows, step.words, self._finished
        offered = _offered(self._total, step.out.log_prob, step.allowed, self._beams)
        ends = step.out.next_token == self._end
        completed = np.where(ends, offered, -np.inf).max(axis=2)
        order = np.argsort(-completed, axis=1, kind="stable")
        completed = np.take_along_axis(completed, order, axis=1)
        finished.add(rows, completed / (words + 2) ** self._length_penalty, completed, order, words)
        before, beams = self._total, 1 if step.forced else self._beams
        partial = np.where(ends, -np.inf, offered)
        self._total, token, parent = _best_partial(partial, step.out.next_token, beams)
        open_ = self._total[:, 0] > -np.inf
        stuck = ~open_ & ~finished.ended[rows]
        finished.add_cut(rows, np.where(stuck[:, None], before, -np.inf), words, 1.0)
        if words + 1 == self.steps:
            cut = np.where(finished.ended[rows, None], -np.inf, self._total)
            finished.add_cut(rows, cut, words + 1, 1.0)
            open_ = np.zeros_like(open_)
        return Continuation(token, parent, open_)

    def select(self, rows: NDArray[np.intp]) -> None:
        """See `strategy.Strategy.select`."""
        self._total = self._total[rows]

    def hypotheses(self, backpointers: Backpointers) -> list[list[Hypothesis]]:
        """See `strategy.Strategy.hypotheses`."""
        return [found[: self._wanted] for found in self._finished.hypotheses(backpointers)]


def printed(found: Hypothesis) -> Hypothesis:
    """What the Show and Tell tool prints of a caption: of one that never ended all but the last word.

    It takes off the first and the last token (``sentence[1:-1]``), whether the last one is the end or a word. log_prob
    and score stay those of all its words, as the p that the tool prints.
    """
    if found.finished:
        return found
    attention = None if found.attention is None else found.attention[:-1]
    return replace(found, tokens=found.tokens[:-1], attention=attention)


def _offered(total: Floats, log_prob: NDArray[np.float32], allowed: NDArray[np.bool_], beams: int) -> Floats:
    """[B, K, C] log-probability of each partial caption with each of its K best next tokens; -inf for all others."""
    offered = allowed & (allowed.cumsum(axis=2) <= beams) & (log_prob >= _LEAST)
    return np.where(offered, total[:, :, None] + log_prob, -np.inf)


def _best_partial(offered: Floats, next_token: Ids, beams: int) -> tuple[Floats, Ids, Ids]:
    """Total, token and parent [B, K] of the best; where there are fewer the total is -inf."""
    images, _, candidates = offered.shape
    flat, tokens = offered.reshape(images, -1), next_token.reshape(images, -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :beams]
    at = np.arange(images)[:, None]
    return flat[at, order], tokens[at, order], order // candidates
