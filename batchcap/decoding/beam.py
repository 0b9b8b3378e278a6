"""Beam search, and greedy search as a beam of one.

Each step ranks all extensions of an image's living beams by total log-probability and walks down: an ``<end>`` met
before the K-th living extension is taken is finished, the others live, and it stops at K living. After ``max_length``
tokens one more step may only end: every other token is masked there, so that all K beams can end. An image is done when
no living beam can beat the worst of its best finished ones; in greedy search as soon as the best extension ends.

Sums run in float64 over the model's float32 log-probabilities, so that a long caption's sum adds no error of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchcap.decoding.backpointers import Backpointers
from batchcap.decoding.constraints import most_forbidden
from batchcap.decoding.finished import FinishedHypotheses
from batchcap.decoding.request import SearchRequest
from batchcap.decoding.strategy import Continuation, ScoredStep
from batchcap.decoding.types import Floats, Hypothesis, Ids, StepOutput


class BeamSearch:
    """See `strategy.Strategy`; ``candidates`` is K + 1 and whatever can be forbidden.

    One row can fill all K beams, and show ``<end>`` (which counts once, whether it may be taken or not) and every
    forbidden token before that.
    """

    def __init__(self, request: SearchRequest) -> None:
        options = request.options
        self._beams, self._limit, self._end = options.beam_size, options.max_length, request.end
        self.steps = self._limit + 1
        self.candidates = min(request.vocabulary_size, self._beams + 1 + most_forbidden(request))
        # What a log-probability of n tokens is divided by for its score; 1 where n is 0.
        self._lengths = np.maximum(np.arange(self._limit + 2), 1).astype(np.float64) ** options.length_penalty
        self._finished = FinishedHypotheses(request.images, options.num_captions)
        # [B', K]. The first step has one beam; from the second on, beams that do not exist have a total of -inf.
        self._total = np.zeros((request.images, 1))

    def advance(self, step: ScoredStep) -> Continuation:
        """Walk down the extensions of every image."""
        rows, words = step.rows, step.words
        if words == self._limit:
            walked = _end_all(self._total, step.out, step.allowed, self._end)
        else:
            extended = _extend(self._total, step.out, step.allowed)
            # A forced token leaves one beam, and the steps after the first stay as cheap as the first.
            walked = _walk(extended, step.out.next_token, 1 if step.forced else self._beams, self._end)
        self._finished.add(rows, walked.ended / self._lengths[words + 1], walked.ended, walked.ended_beam, words)
        stuck = (walked.total[:, 0] == -np.inf) & ~self._finished.ended[rows]
        if stuck.any():
            cut = np.where(stuck[:, None], self._total, -np.inf)
            self._finished.add_cut(rows, cut, words, self._lengths[words])
        open_ = self._open(rows, walked.total[:, 0])
        self._total = walked.total
        # An image that is done stays done, even where rounding would let a log-probability rise above 0 later.
        self._total[~open_] = -np.inf
        return Continuation(walked.token, walked.parent, open_)

    def select(self, rows: NDArray[np.intp]) -> None:
        """See `strategy.Strategy.select`."""
        self._total = self._total[rows]

    def hypotheses(self, backpointers: Backpointers) -> list[list[Hypothesis]]:
        """See `strategy.Strategy.hypotheses`."""
        return self._finished.hypotheses(backpointers)

    def _open(self, rows: NDArray[np.intp], best: Floats) -> NDArray[np.bool_]:
        """[B'] the images whose best living total [B'] can still beat the worst of their best finished ones."""
        bound = best / self._lengths[self._limit + 1]
        return np.asarray(bound > self._finished.score[rows, -1])


class GreedySearch(BeamSearch):
    """The most probable token at each step: an end that was taken was it, whatever could score better later."""

    def _open(self, rows: NDArray[np.intp], best: Floats) -> NDArray[np.bool_]:
        return super()._open(rows, best) & ~self._finished.ended[rows]


def _extend(total: Floats, out: StepOutput, allowed: NDArray[np.bool_]) -> Floats:
    """[B, K * C] log-probability of every extension; -inf for what is impossible (NaN too) or not allowed."""
    extended = total[:, :, None] + out.log_prob
    return np.where((extended > -np.inf) & allowed, extended, -np.inf).reshape(len(total), -1)


class _Walked(NamedTuple):
    """What one step's walk took; rows that hold fewer are filled with -inf."""

    total: Floats
    """[B, K] of the living beams, best first."""
    token: Ids
    parent: Ids
    ended: Floats
    """[B, K] of the extensions that ended, best first."""
    ended_beam: Ids


def _end_all(total: Floats, out: StepOutput, is_end: NDArray[np.bool_], end: int) -> _Walked:
    """The step after the longest hypothesis: every beam that can end does, and none lives on.

    Args:
        total: [B, K].
        out: of the whole vocabulary, C = V.
        is_end: [B, K, V] which of the next tokens is the end.
        end: its id.
    """
    place = is_end.argmax(axis=2)[:, :, None]
    there = np.take_along_axis(is_end, place, axis=2)[:, :, 0]
    ended = total + np.take_along_axis(out.log_prob, place, axis=2)[:, :, 0]
    ended = np.where(there & (ended > -np.inf), ended, -np.inf)  # NaN counts as impossible
    beam = np.argsort(-ended, axis=1, kind="stable")
    none = np.full_like(ended, -np.inf)
    return _Walked(none, np.full_like(beam, end), beam, np.take_along_axis(ended, beam, axis=1), beam)


def _walk(extended: Floats, next_token: Ids, beams: int, end: int) -> _Walked:
    """Walk down the extensions of each image until K living ones are taken."""
    images, _, candidates = next_token.shape
    tokens = next_token.reshape(images, -1)
    # Equal totals: the lower token, and since places run beam by beam and lexsort is stable, the lower beam. Past K
    # living and K ends (a beam ends once) nothing can be taken.
    order = np.lexsort((tokens, -extended), axis=1)[:, : 2 * beams]
    at = np.arange(images)[:, None]
    ranked, ranked_token = extended[at, order], tokens[at, order]
    possible = ranked > -np.inf
    ends = possible & (ranked_token == end)
    lives = possible & ~ends
    place = lives.cumsum(axis=1)
    ends &= place < beams
    lives &= place <= beams
    walked = _Walked(
        np.full((images, beams), -np.inf),
        np.full((images, beams), end, np.int64),
        np.zeros((images, beams), np.int64),
        np.full((images, beams), -np.inf),
        np.zeros((images, beams), np.int64),
    )
    row, column = np.nonzero(ends)
    place_ended = ends.cumsum(axis=1)[row, column] - 1
    walked.ended[row, place_ended] = ranked[row, column]
    walked.ended_beam[row, place_ended] = order[row, column] // candidates
    row, column = np.nonzero(lives)
    slot = place[row, column] - 1
    walked.total[row, slot] = ranked[row, column]
    walked.token[row, slot] = ranked_token[row, column]
    walked.parent[row, slot] = order[row, column] // candidates
    return walked
