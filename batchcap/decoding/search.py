"""Beam search for many images at once: pure NumPy over a model's step.

Arrays keep ``[B, K, ...]``: B images, K beams, C candidates. Sums run in float64 over the model's float32
log-probabilities, so that a long caption's sum adds no error of its own.

Each step ranks all extensions of an image's living beams by total log-probability and walks down: an ``<end>`` met
before the K-th living extension is taken is finished, the others live, and it stops at K living. After ``max_length``
tokens one more step may only end: every other token is masked there, so that all K beams can end. An image is done when
no living beam can beat the worst of its best finished ones; in greedy search as soon as the best extension ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchcap.decoding.constraints import Rules, most_banned
from batchcap.decoding.im2txt import im2txt
from batchcap.decoding.sampling import sample, sample_candidates
from batchcap.decoding.types import (
    Best,
    Floats,
    Hypothesis,
    Ids,
    Leaving,
    Step,
    StepOutput,
    Trail,
    leave_at_once,
)
from batchcap.options.decoding import DecodingOptions

__all__ = ["Hypothesis", "Step", "StepOutput", "candidates_needed", "search"]


def candidates_needed(options: DecodingOptions, vocabulary_size: int, banned: Sequence[int] = ()) -> int:
    """How many next tokens a beam must show so that the search is exact, at every step that has a choice.

    One row can fill all K beams, and show ``<end>`` (which counts once, whether it may be taken or not) and every
    token that may not be taken before that. Where one token alone may follow (a forced word, or ``<end>`` after
    ``max_length`` tokens), it can be the last of the whole vocabulary, and a search asks for all of it.
    """
    if options.search == "sample":
        return sample_candidates(options, vocabulary_size, banned)
    return min(vocabulary_size, options.beam_size + 1 + most_banned(options, banned))


def search(
    stepper: Step,
    images: int,
    options: DecodingOptions,
    *,
    start: int,
    end: int,
    vocabulary_size: int,
    banned: Sequence[int] = (),
    prefix: Sequence[int] = (),
    streams: Sequence[int] | None = None,
    leaving: Leaving | None = leave_at_once,
    attention: bool = False,
) -> list[list[Hypothesis]]:
    """The captions of each image: of beam and greedy search here, of the others by `sample` and `im2txt`.

    Args:
        stepper: a model that has seen the images and no token yet; it shows `candidates_needed` candidates a beam.
        images: B.
        options: how to search; greedy takes the most probable token at each step.
        start: the token before the first.
        end: the token that finishes a caption.
        vocabulary_size: V.
        banned: tokens that captions must not hold.
        prefix: the first tokens of every caption, at most ``max_length``. They count like chosen ones, in log_prob too;
            where one is impossible the caption is what stands before it.
        streams: [B] a number from 0 to 2 ** 64 - 1 an image, which with the seed decides what is sampled for it;
            None numbers the images.
        leaving: when finished images leave the batch; None is never. It changes no caption, only what a step costs.
        attention: the hypotheses carry attention weights, where the model has them.

    Returns:
        For each image at least one and at most ``num_captions`` hypotheses, best first. Only where none finished are
        they cut ones: the beams as they were when ``max_length`` was reached, or when the model allowed no token. Of
        equal scores the one that finished earlier comes first. NaN counts as impossible.

    Raises:
        ValueError: the stepper shows fewer candidates than an exact search needs.
    """
    rules = Rules(options, vocabulary_size, end, banned, prefix)
    beams, limit = options.beam_size, options.max_length
    begun_with = candidates_needed(options, vocabulary_size, banned)
    if options.search == "sample":
        return sample(
            stepper,
            images,
            options,
            rules,
            start=start,
            end=end,
            vocabulary_size=vocabulary_size,
            candidates=begun_with,
            streams=range(images) if streams is None else streams,
            leaving=leaving,
            attention=attention,
        )
    if options.search == "im2txt":
        return im2txt(
            stepper,
            images,
            options,
            rules,
            start=start,
            end=end,
            vocabulary_size=vocabulary_size,
            candidates=begun_with,
            leaving=leaving,
            attention=attention,
        )
    lengths = np.maximum(np.arange(limit + 2), 1).astype(np.float64) ** options.length_penalty
    best = Best(images, options.num_captions)
    trail = Trail()
    rows = np.arange(images)
    # The first step has one beam; from the second on, beams that do not exist have a total of -inf.
    total = np.zeros((images, 1))
    token = np.full((images, 1), start, np.int64)
    parent = np.zeros((images, 1), np.int64)
    for words in range(limit + 1):
        forced, last = rules.forced(words), words == limit
        whole = vocabulary_size if forced or last else None
        needed = whole or begun_with
        out = stepper.step(token, parent, attention=attention, candidates=whole)
        if out.log_prob.shape[2] < needed:
            raise ValueError(f"{out.log_prob.shape[2]} candidates a beam; this search needs {needed}")
        trail.look(out.attention)
        if last:
            taken = _end(total, out, end)
        else:
            extended = _extend(total, out, rules.allowed(out.next_token, words))
            # A forced token leaves one beam, and the steps after the first stay as cheap as the first.
            taken = _walk(extended, out.next_token, 1 if forced else beams, end)
        best.add(rows, taken.ended / lengths[words + 1], taken.ended, taken.ended_beam, words)
        stuck = (taken.total[:, 0] == -np.inf) & ~best.finished[rows]
        if stuck.any():
            best.cut(rows, np.where(stuck[:, None], total, -np.inf), words, lengths[words])
        bound = taken.total[:, 0] / lengths[limit + 1]
        open_ = bound > best.score[rows, -1]
        if options.search == "greedy":  # an end that it took was the most probable token, whatever could score better
            open_ &= ~best.finished[rows]
        if not open_.any():
            break
        trail.add(rows, images, taken.token, taken.parent)
        rules.follow(taken.token, taken.parent)
        token, parent, total = taken.token, taken.parent, taken.total
        # Done is done, even where rounding would let a log-probability rise above 0 later.
        total[~open_] = -np.inf
        if leaving is not None and (keep := leaving(open_)) is not None:
            stepper.select(keep)
            rules.select(keep)
            rows, token, parent, total = rows[keep], token[keep], parent[keep], total[keep]
    return best.hypotheses(trail)


def _extend(total: Floats, out: StepOutput, allowed: NDArray[np.bool_]) -> Floats:
    """[B, K * C] log-probability of every extension; -inf for what is impossible (NaN too) or not allowed."""
    extended = total[:, :, None] + out.log_prob
    return np.where((extended > -np.inf) & allowed, extended, -np.inf).reshape(len(total), -1)


class _Taken(NamedTuple):
    """What one step's walk took; rows that hold fewer are filled with -inf."""

    total: Floats
    """[B, K] of the living beams, best first."""
    token: Ids
    parent: Ids
    ended: Floats
    """[B, K] of the extensions that ended, best first."""
    ended_beam: Ids


def _end(total: Floats, out: StepOutput, end: int) -> _Taken:
    """The step after the longest hypothesis: every beam that can end does, and none lives on.

    Args:
        total: [B, K].
        out: the whole vocabulary, C = V.
    """
    place = (out.next_token == end).argmax(axis=2)[:, :, None]
    there = np.take_along_axis(out.next_token, place, axis=2)[:, :, 0] == end
    ended = total + np.take_along_axis(out.log_prob, place, axis=2)[:, :, 0]
    ended = np.where(there & (ended > -np.inf), ended, -np.inf)  # NaN counts as impossible
    beam = np.argsort(-ended, axis=1, kind="stable")
    none = np.full_like(ended, -np.inf)
    return _Taken(none, np.full_like(beam, end), beam, np.take_along_axis(ended, beam, axis=1), beam)


def _walk(extended: Floats, next_token: Ids, beams: int, end: int) -> _Taken:
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
    taken = _Taken(
        np.full((images, beams), -np.inf),
        np.full((images, beams), end, np.int64),
        np.zeros((images, beams), np.int64),
        np.full((images, beams), -np.inf),
        np.zeros((images, beams), np.int64),
    )
    row, column = np.nonzero(ends)
    place_ended = ends.cumsum(axis=1)[row, column] - 1
    taken.ended[row, place_ended] = ranked[row, column]
    taken.ended_beam[row, place_ended] = order[row, column] // candidates
    row, column = np.nonzero(lives)
    slot = place[row, column] - 1
    taken.total[row, slot] = ranked[row, column]
    taken.token[row, slot] = ranked_token[row, column]
    taken.parent[row, slot] = order[row, column] // candidates
    return taken
