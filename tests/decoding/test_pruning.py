"""Images that are done leave the batch: which, when, and that it changes no caption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import INF, TURNS, Model, decodings, model_of, models, same_attention, tokens

from batchcap.decoding.pruning import prune_at_once, prune_by_halves
from batchcap.options.decoding import DecodingOptions


@settings(deadline=None)
@given(models(max_images=7), decodings())
def test_images_that_leave_the_batch_change_nothing(model: Model, options: DecodingOptions) -> None:
    stayed = model.search(options, pruning=None)
    assert model.search(options, pruning=prune_at_once) == stayed
    assert model.search(options, pruning=prune_by_halves) == stayed


def test_finished_images_leave_the_batch() -> None:
    options = DecodingOptions(beam_size=1, max_length=8, length_penalty=0.0)
    model = replace(TURNS, rows=(0, 1, 0, 0, 2))
    found, stepper = model.watched_search(options)
    assert [len(fed) for fed in stepper.fed] == [5, 2, 1]
    assert tokens(found) == [[()], [(2, 3)], [()], [()], [(3,)]]
    _, stepper = model.watched_search(options, pruning=None)
    assert [len(fed) for fed in stepper.fed] == [5, 5, 5]


def test_a_batch_that_leaves_by_halves_meets_few_sizes() -> None:
    options = DecodingOptions(beam_size=1, max_length=8, length_penalty=0.0)
    model = replace(TURNS, rows=(1, 0, 2, 0, 0, 0, 0, 1, 0, 0))
    for pruning, sizes in ((prune_at_once, [10, 3, 2]), (prune_by_halves, [10, 5, 2])):
        found, stepper = model.watched_search(options, pruning=pruning, attention=True)
        assert [len(fed) for fed in stepper.fed] == sizes
        assert tokens(found) == [[(2, 3)], [()], [(3,)], [()], [()], [()], [()], [(2, 3)], [()], [()]]
        for image, best in enumerate(found):
            same_attention(best, image)


@given(st.lists(st.booleans(), min_size=1, max_size=70).filter(any))
def test_who_leaves(open_: list[bool]) -> None:
    mask = np.array(open_)
    halves = {len(open_) >> n for n in range(7)}
    for pruning, sizes in ((prune_at_once, {sum(open_)}), (prune_by_halves, halves)):
        keep = pruning(mask)
        if keep is None:
            assert sum(open_) > len(open_) // 2
            continue
        assert len(keep) in sizes
        assert len(keep) < len(open_)
        assert sum(open_) > len(keep) // 2 or pruning is prune_at_once
        # In their order, none twice, and every open one among them.
        assert (np.diff(keep) > 0).all()
        assert mask[keep].sum() == sum(open_)


def test_a_done_image_stays_done() -> None:
    # A log-probability above 0, which no bound foresees: alone, image 0 is done before it comes.
    model = model_of(
        [-INF, -0.01, -0.02, -INF],
        [-INF, -9.0, 5.0, -INF],
        [-INF, -9.0, -0.1, -9.0],
        following=[[0, 0, 1, 1], [1] * 4, [2] * 4],
    )
    options = DecodingOptions(beam_size=2, max_length=3, length_penalty=0.0)
    together = replace(model, rows=(0, 2)).search(options, pruning=None)
    assert together[0] == model.only(0).search(options)[0]
    assert together[0][0].tokens == ()
