"""The search of the Show and Tell code (Vinyals et al., "Show and Tell: Lessons learned", 2016), for many images."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchcap.decoding.constraints import Rules
from batchcap.decoding.types import (
    Best,
    Floats,
    Hypothesis,
    Ids,
    Leaving,
    Step,
    Trail,
)
from batchcap.options.decoding import DecodingOptions

# It takes the logarithm of no probability below this.
_LEAST: Final = float(np.log(1e-12))


def im2txt(
    stepper: Step,
    images: int,
    options: DecodingOptions,
    rules: Rules,
    *,
    start: int,
    end: int,
    vocabulary_size: int,
    candidates: int,
    leaving: Leaving | None,
    attention: bool,
) -> list[list[Hypothesis]]:
    """The captions that the Show and Tell code finds.

    Each partial caption offers its K best next words; those that end go into a heap of the K best completed ones, of
    the others the K best are the next partial ones. It makes ``max_length`` steps, the one that ends included, unless
    nothing is left. A completed caption scores log_prob / n ** length_penalty with ``<start>`` and ``<end>`` counted
    in n; partial ones, which are used only where nothing completed, score log_prob. Of equals the first met stays: the
    better caption before, then the better word.
    See `batchcap.decoding.search.search` for the arguments.
    """
    beams = options.beam_size
    best, trail = Best(images, beams), Trail()
    rows = np.arange(images)
    token, parent = np.full((images, 1), start, np.int64), np.zeros((images, 1), np.int64)
    total = np.zeros((images, 1))
    for words in range(options.max_length):
        forced = rules.forced(words)
        needed = vocabulary_size if forced else candidates
        out = stepper.step(token, parent, attention=attention, candidates=needed)
        if out.log_prob.shape[2] < needed:
            raise ValueError(f"{out.log_prob.shape[2]} candidates a beam; this search needs {needed}")
        trail.look(out.attention)
        offered = _offered(total, out.log_prob, rules.allowed(out.next_token, words), beams)
        ends = out.next_token == end
        completed = np.where(ends, offered, -np.inf).max(axis=2)
        order = np.argsort(-completed, axis=1, kind="stable")
        completed = np.take_along_axis(completed, order, axis=1)
        best.add(rows, completed / (words + 2) ** options.length_penalty, completed, order, words)
        before = total
        total, token, parent = _partial(np.where(ends, -np.inf, offered), out.next_token, 1 if forced else beams)
        open_ = total[:, 0] > -np.inf
        stuck = ~open_ & ~best.finished[rows]
        best.cut(rows, np.where(stuck[:, None], before, -np.inf), words, 1.0)
        if not open_.any():
            break
        trail.add(rows, images, token, parent)
        rules.follow(token, parent)
        if words + 1 == options.max_length:
            best.cut(rows, np.where(best.finished[rows, None], -np.inf, total), words + 1, 1.0)
        elif leaving is not None and (keep := leaving(open_)) is not None:
            stepper.select(keep)
            rules.select(keep)
            rows, token, parent, total = rows[keep], token[keep], parent[keep], total[keep]
    return [found[: options.num_captions] for found in best.hypotheses(trail)]


def printed(found: Hypothesis) -> Hypothesis:
    """What the Show and Tell tool prints of a caption: of one that never ended all but the last word.

    It takes the first and the last token off (``sentence[1:-1]``), whether the last one is the end or a word. What the
    caption is worth stays that of all its words, as the p that it prints.
    """
    if found.finished:
        return found
    attention = None if found.attention is None else found.attention[:-1]
    return replace(found, tokens=found.tokens[:-1], attention=attention)


def _offered(total: Floats, log_prob: NDArray[np.float32], allowed: NDArray[np.bool_], beams: int) -> Floats:
    """[B, K, C] log-probability of each partial caption with each of its K best next words; -inf for all others."""
    offered = allowed & (allowed.cumsum(axis=2) <= beams) & (log_prob >= _LEAST)
    return np.where(offered, total[:, :, None] + log_prob, -np.inf)


def _partial(offered: Floats, next_token: Ids, beams: int) -> tuple[Floats, Ids, Ids]:
    """Total, token and parent [B, K] of the best; where there are fewer the total is -inf."""
    images, _, candidates = offered.shape
    flat, tokens = offered.reshape(images, -1), next_token.reshape(images, -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :beams]
    at = np.arange(images)[:, None]
    return flat[at, order], tokens[at, order], order // candidates
