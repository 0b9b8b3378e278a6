"""The driver of every search: step the model, apply the token constraints, let the strategy choose, record, prune.

Arrays keep ``[B, K, ...]``: B images, K beams, C candidates. A further search is a class like those of `STRATEGIES`, in
a file of its own, and one line there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from batchcap.decoding.backpointers import Backpointers
from batchcap.decoding.beam import BeamSearch, GreedySearch
from batchcap.decoding.constraints import TokenConstraints
from batchcap.decoding.im2txt import Im2txtSearch
from batchcap.decoding.request import SearchRequest
from batchcap.decoding.sampling import Sampling
from batchcap.decoding.strategy import ScoredStep, Strategy
from batchcap.decoding.types import Hypothesis, Stepper
from batchcap.options.decoding import Search

STRATEGIES: Final[dict[Search, Callable[[SearchRequest], Strategy]]] = {
    "beam": BeamSearch,
    "greedy": GreedySearch,
    "sample": Sampling,
    "im2txt": Im2txtSearch,
}


def search(stepper: Stepper, request: SearchRequest) -> list[list[Hypothesis]]:
    """Find the captions of each image of a batch.

    Args:
        stepper: a decoder that has the images of the request and has been given no token yet.
        request: what to search for.

    Returns:
        For each image at least one and at most ``num_captions`` hypotheses, best first. Only where none finished are
        they cut ones: the beams as they were when ``max_length`` was reached, or when the model allowed no token. Of
        equal scores the one that finished earlier comes first. NaN counts as impossible.

    Raises:
        ValueError: the stepper gives fewer candidates than it was asked for.
    """
    strategy = STRATEGIES[request.options.search](request)
    constraints, backpointers = TokenConstraints(request), Backpointers(request.images)
    rows = np.arange(request.images)
    # The first step has one beam.
    token, parent = np.full((request.images, 1), request.start, np.int64), np.zeros((request.images, 1), np.int64)
    for words in range(strategy.steps):
        needed = request.vocabulary_size if constraints.one_choice(words) else strategy.candidates
        out = stepper.step(token, parent, candidates=needed, attention=request.attention)
        if out.log_prob.shape[2] < needed:
            raise ValueError(f"{out.log_prob.shape[2]} candidates a beam; this search needs {needed}")
        backpointers.record_attention(out.attention)
        allowed = constraints.allowed(out.next_token, words)
        step = ScoredStep(rows, words, out, allowed, constraints.forced(words))
        token, parent, open_ = strategy.advance(step)
        backpointers.record(rows, token, parent)
        if not open_.any():
            break
        constraints.record(token, parent)
        keep = None if request.pruning is None else request.pruning(open_)
        if keep is not None:
            stepper.select(keep)
            constraints.select(keep)
            strategy.select(keep)
            rows, token, parent = rows[keep], token[keep], parent[keep]
    return strategy.hypotheses(backpointers)
