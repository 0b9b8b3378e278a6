"""Sampling: captions drawn token by token, each image from a random stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from batchcap.decoding.backpointers import Backpointers
from batchcap.decoding.constraints import most_forbidden
from batchcap.decoding.request import SearchRequest
from batchcap.decoding.strategy import Continuation, ScoredStep
from batchcap.decoding.types import Floats, Hypothesis, Ids
from batchcap.options.decoding import DecodingOptions


class Sampling:
    """See `strategy.Strategy`: ``num_captions`` samples an image, each drawn by itself.

    A token's chance is its probability among those that the constraints allow, of these the ``top_k`` best, sharpened
    by ``temperature``, of these the fewest that hold ``top_p``. After ``max_length`` tokens only ``<end>`` is allowed.
    log_prob and score are those of the model, whatever was filtered. An image gets its distinct samples, best score
    first: fewer than ``num_captions`` where one was drawn twice.

    ``candidates`` is ``top_k`` and whatever can be forbidden before these, or all.
    """

    def __init__(self, request: SearchRequest) -> None:
        self._options, self._end = request.options, request.end
        count, words = self._options.num_captions, request.vocabulary_size
        self.steps = self._options.max_length + 1
        top_k = self._options.top_k
        self.candidates = min(words, top_k + 1 + most_forbidden(request)) if top_k else words
        streams = range(request.images) if request.streams is None else request.streams
        self._chance = _uniform(streams, self._options.seed, count, self.steps)
        self._samples = _Samples(request.images, count)
        # [B', K]. Until the first free token, all samples of an image are one.
        self._total, self._living = np.zeros((request.images, 1)), np.ones((request.images, 1), bool)

    def advance(self, step: ScoredStep) -> Continuation:
        """Draw a token for every living sample."""
        rows, words, out = step.rows, step.words, step.out
        weight = _weights(out.log_prob, step.allowed, self._options)
        # A forced token needs no chance.
        drawn = 1 if step.forced else self._options.num_captions
        place = _draw(weight, out.next_token, self._chance[rows, :drawn, words])
        at, beam = np.arange(len(rows))[:, None], np.arange(drawn) % out.next_token.shape[1]
        living, total = self._living[:, beam], self._total[:, beam]
        possible = living & (weight[at, beam, place] > 0)
        parent = np.zeros_like(place) + beam
        self._samples.add(rows, living & ~possible, total, parent, words, finished=False)
        token = out.next_token[at, beam, place]
        self._total = total + np.where(possible, out.log_prob[at, beam, place], 0.0)
        self._living = possible & (token != self._end)
        self._samples.add(rows, possible & (token == self._end), self._total, parent, words, finished=True)
        return Continuation(token, parent, np.asarray(self._living.any(axis=1)))

    def select(self, rows: NDArray[np.intp]) -> None:
        """See `strategy.Strategy.select`."""
        self._total, self._living = self._total[rows], self._living[rows]

    def hypotheses(self, backpointers: Backpointers) -> list[list[Hypothesis]]:
        """See `strategy.Strategy.hypotheses`."""
        return self._samples.hypotheses(backpointers, self._options.length_penalty)


def _uniform(streams: Sequence[int], seed: int, count: int, steps: int) -> Floats:
    """[B, count, steps] numbers from 0 to below 1, each image's from (seed, its stream) alone.

    Raw numbers of Philox, which NumPy promises never to change, unlike what its generators make of them.
    """
    keys = (np.array([stream, seed], np.uint64) for stream in streams)
    raw = [np.random.Philox(key=key).random_raw(count * steps) for key in keys]
    whole = np.asarray(raw, np.uint64).reshape(len(streams), count, steps) >> np.uint64(11)
    return whole.astype(np.float64) * 2.0**-53


def _weights(log_prob: NDArray[np.float32], allowed: NDArray[np.bool_], options: DecodingOptions) -> Floats:
    """[B, K, C] what each candidate is drawn in proportion to: 0 for what the constraints and filters leave out."""
    possible = allowed & (log_prob > -np.inf)
    if options.top_k:
        possible &= possible.cumsum(axis=2) <= options.top_k
    value = np.where(possible, log_prob.astype(np.float64), -np.inf)
    best = value.max(axis=2, keepdims=True)
    weight: Floats = np.exp((value - np.where(best > -np.inf, best, 0.0)) / options.temperature)
    if options.top_p < 1:
        before = weight.cumsum(axis=2) - weight
        weight[before >= options.top_p * weight.sum(axis=2, keepdims=True)] = 0.0
    return weight


def _draw(weight: Floats, next_token: Ids, chance: Floats) -> NDArray[np.intp]:
    """[B, N] the candidate that each of ``chance`` [B, N] hits, from N rows of candidates [B, N, C] or from one.

    Tokens lie in the order of their ids: by rank, two near ones that a rounding swaps would swap what is drawn.
    """
    order = np.argsort(next_token, axis=2)
    upto = np.take_along_axis(weight, order, axis=2).cumsum(axis=2)
    whole = upto[:, :, -1]
    hit = np.minimum(chance * whole, np.nextafter(whole, 0.0))
    place = np.minimum((upto <= hit[:, :, None]).sum(axis=2), weight.shape[2] - 1)
    at, beam = np.arange(len(place))[:, None], np.arange(place.shape[1]) % weight.shape[1]
    return np.asarray(order[at, beam, place])


class _Samples:
    """The samples of every image: [images, count], as (words, beam), which `Backpointers` reads."""

    def __init__(self, images: int, count: int) -> None:
        self.log_prob = np.zeros((images, count))
        self.words = np.zeros((images, count), np.int64)
        self.beam = np.zeros((images, count), np.int64)
        self.there = np.zeros((images, count), bool)
        self.finished = np.zeros((images, count), bool)

    def add(
        self,
        rows: NDArray[np.intp],
        which: NDArray[np.bool_],
        total: Floats,
        beam: Ids,
        words: int,
        *,
        finished: bool,
    ) -> None:
        """Keep the samples of ``which`` [B', N], which are done: beam ``beam`` [B', N] after ``words`` tokens."""
        row, sample = np.nonzero(which)
        at = rows[row], sample
        self.log_prob[at], self.beam[at], self.words[at] = total[row, sample], beam[row, sample], words
        self.there[at], self.finished[at] = True, finished

    def hypotheses(self, backpointers: Backpointers, length_penalty: float) -> list[list[Hypothesis]]:
        """Image by image the distinct ones, best first; those that were cut only where none finished."""
        image, sample = np.nonzero(self.there & (self.finished | ~self.finished.any(axis=1, keepdims=True)))
        read = backpointers.read(image, self.words[image, sample], self.beam[image, sample])
        found: list[dict[tuple[int, ...], Hypothesis]] = [{} for _ in self.there]
        for i, n, (tokens, attention) in zip(image.tolist(), sample.tolist(), read, strict=True):
            log_prob, finished = float(self.log_prob[i, n]), bool(self.finished[i, n])
            score = log_prob / max(len(tokens) + finished, 1) ** length_penalty
            found[i].setdefault(tokens, Hypothesis(tokens, log_prob, score, finished, attention))
        return [sorted(best.values(), key=lambda h: -h.score) for best in found]
