"""Sampling: captions drawn word by word, each image from a random stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from batchcap.decoding.constraints import Rules, most_banned
from batchcap.decoding.types import (
    Floats,
    Hypothesis,
    Ids,
    Leaving,
    Step,
    Trail,
)
from batchcap.options.decoding import DecodingOptions


def sample_candidates(options: DecodingOptions, vocabulary_size: int, banned: Sequence[int] = ()) -> int:
    """How many next tokens a sample must see: the ``top_k`` and whatever can be forbidden before them, or all."""
    if options.top_k == 0:
        return vocabulary_size
    return min(vocabulary_size, options.top_k + 1 + most_banned(options, banned))


def sample(
    stepper: Step,
    images: int,
    options: DecodingOptions,
    rules: Rules,
    *,
    start: int,
    end: int,
    vocabulary_size: int,
    candidates: int,
    streams: Sequence[int],
    leaving: Leaving | None,
    attention: bool,
) -> list[list[Hypothesis]]:
    """Draw ``num_captions`` captions an image, each for itself.

    A token's chance is its probability among those that the rules allow, of these the ``top_k`` best, sharpened by
    ``temperature``, of these the fewest that hold ``top_p``. After ``max_length`` tokens only ``<end>`` is allowed.
    log_prob and score are those of the model, whatever was filtered. See `search.search` for the arguments.

    Returns:
        For each image its distinct captions, best score first: fewer than ``num_captions`` where one was drawn twice.
    """
    limit = options.max_length
    chance = _uniform(streams, options.seed, options.num_captions, limit + 1)
    drawn = _Drawn(images, options.num_captions)
    trail = Trail()
    rows = np.arange(images)
    token, parent = np.full((images, 1), start, np.int64), np.zeros((images, 1), np.int64)
    total, living = np.zeros((images, 1)), np.ones((images, 1), bool)
    for words in range(limit + 1):
        forced, last = rules.forced(words), words == limit
        needed = vocabulary_size if forced or last else candidates
        out = stepper.step(token, parent, attention=attention, candidates=needed)
        if out.log_prob.shape[2] < needed:
            raise ValueError(f"{out.log_prob.shape[2]} candidates a sample; this search needs {needed}")
        trail.look(out.attention)
        allowed = rules.allowed(out.next_token, words)
        if last:
            allowed &= out.next_token == end
        weight = _weights(out.log_prob, allowed, options)
        # A forced word needs no chance: until the first free one, all samples of an image are one.
        place = _draw(weight, out.next_token, chance[rows, : 1 if forced else options.num_captions, words])
        at, beam = np.arange(len(rows))[:, None], np.arange(place.shape[1]) % token.shape[1]
        possible = living[:, beam] & (weight[at, beam, place] > 0)
        parent = np.zeros_like(place) + beam
        drawn.add(rows, living[:, beam] & ~possible, total[:, beam], parent, words, finished=False)
        token = out.next_token[at, beam, place]
        total = total[:, beam] + np.where(possible, out.log_prob[at, beam, place], 0.0)
        living = possible & (token != end)
        drawn.add(rows, possible & (token == end), total, parent, words, finished=True)
        open_ = living.any(axis=1)
        if not open_.any():
            break
        trail.add(rows, images, token, parent)
        rules.follow(token, parent)
        if leaving is not None and (keep := leaving(open_)) is not None:
            stepper.select(keep)
            rules.select(keep)
            rows, token, parent, total, living = rows[keep], token[keep], parent[keep], total[keep], living[keep]
    return drawn.hypotheses(trail, options.length_penalty)


def _uniform(streams: Sequence[int], seed: int, count: int, steps: int) -> Floats:
    """[B, count, steps] numbers from 0 to below 1, each image's from (seed, its stream) alone.

    Raw numbers of Philox, which NumPy promises never to change, unlike what its generators make of them.
    """
    keys = (np.array([stream, seed], np.uint64) for stream in streams)
    raw = [np.random.Philox(key=key).random_raw(count * steps) for key in keys]
    whole = np.asarray(raw, np.uint64).reshape(len(streams), count, steps) >> np.uint64(11)
    return whole.astype(np.float64) * 2.0**-53


def _weights(log_prob: NDArray[np.float32], allowed: NDArray[np.bool_], options: DecodingOptions) -> Floats:
    """[B, K, C] what each candidate is drawn in proportion to: 0 for what the rules and filters leave out."""
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


class _Drawn:
    """The samples of every image: [images, count], as (words, beam), which `Trail` reads."""

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
        """Those of ``which`` [B', N] are done: beam ``beam`` after ``words`` tokens."""
        row, sample = np.nonzero(which)
        at = rows[row], sample
        self.log_prob[at], self.beam[at], self.words[at] = total[row, sample], beam[row, sample], words
        self.there[at], self.finished[at] = True, finished

    def hypotheses(self, trail: Trail, length_penalty: float) -> list[list[Hypothesis]]:
        """Image by image the distinct ones, best first; those that were cut only where none finished."""
        image, sample = np.nonzero(self.there & (self.finished | ~self.finished.any(axis=1, keepdims=True)))
        said = trail.read(image, self.words[image, sample], self.beam[image, sample])
        found: list[dict[tuple[int, ...], Hypothesis]] = [{} for _ in self.there]
        for i, n, (words, attention) in zip(image.tolist(), sample.tolist(), said, strict=True):
            log_prob, finished = float(self.log_prob[i, n]), bool(self.finished[i, n])
            score = log_prob / max(len(words) + finished, 1) ** length_penalty
            found[i].setdefault(words, Hypothesis(words, log_prob, score, finished, attention))
        return [sorted(best.values(), key=lambda h: -h.score) for best in found]
