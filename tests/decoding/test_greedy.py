"""Greedy search against a plain-Python one, and where it differs from a beam of one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from oracles import (
    INF,
    PENALTIES,
    Model,
    decodings,
    greedy,
    model_of,
    policies,
    prefixed_models,
    same,
    same_attention,
    tokens,
)

from batchcap.decoding.pruning import PruningPolicy
from batchcap.options.decoding import DecodingOptions


@settings(deadline=None, max_examples=300)
@given(prefixed_models(), decodings(), policies)
def test_greedy_is_the_most_probable_token_at_each_step(
    model: Model, options: DecodingOptions, pruning: PruningPolicy | None
) -> None:
    model = replace(model, prefix=model.prefix[: options.max_length])
    options = replace(options, search="greedy", beam_size=1, num_captions=1)
    for image, found in enumerate(model.search(options, pruning=pruning, attention=True)):
        same(found, [greedy(model, image, options)])
        same_attention(found, image)


def test_greedy_ends_where_the_end_is_most_probable_whatever_the_penalty() -> None:
    # After any token: <end> 0.6, 2: 0.4. At penalty 2 a beam of one goes on past the end, and is right to.
    model = model_of([-INF, *np.log([0.6, 0.4]).tolist()])
    for penalty in PENALTIES:
        options = DecodingOptions(search="greedy", beam_size=1, max_length=4, length_penalty=penalty)
        found, stepper = model.watched_search(options)
        assert tokens(found) == [[()]] * 2
        assert len(stepper.fed) == 1
    beam = DecodingOptions(beam_size=1, max_length=4, length_penalty=2.0)
    assert tokens(model.search(beam)) == [[(2, 2, 2, 2)]] * 2
