"""Token constraints: bans, a least length, forced first words, no repeated n-grams, and the candidates they need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import INF, Model, TableStepper, candidates_needed, decodings, model_of, models, naive, same, tokens

from batchcap.options.decoding import DecodingOptions


@settings(deadline=None, max_examples=200)
@given(models(max_words=14), decodings(), st.integers(1, 3))
def test_no_more_candidates_are_needed_than_are_counted(model: Model, options: DecodingOptions, ngram: int) -> None:
    """A vocabulary larger than C, so that the candidates of a row do end."""
    options = replace(options, no_repeat_ngram=ngram, max_length=ngram + 2, min_length=ngram)
    for image, found in enumerate(model.search(options)):
        same(found, naive(model, image, options))


def test_what_is_counted() -> None:
    options = DecodingOptions(beam_size=3, max_length=20)
    assert candidates_needed(options, 1000) == 4
    assert candidates_needed(options, 1000, [0, 3, 3]) == 6
    assert candidates_needed(options, 5, [0, 3]) == 5
    assert candidates_needed(replace(options, min_length=9), 1000, [0, 3]) == 6
    # 19 runs of two words in 20, each may forbid a word of its own; with runs of 30 nothing can repeat.
    assert candidates_needed(replace(options, no_repeat_ngram=2), 1000, [0]) == 24
    assert candidates_needed(replace(options, no_repeat_ngram=30), 1000, [0]) == 5


def test_the_worst_row_is_still_seen_to_the_end() -> None:
    # 2, 3, 4, 5 in turn and then 6, each likelier than all that follow: with no word twice, every step but the first
    # meets all earlier words first, and the last candidate of the row is the one to take.
    model = model_of([-INF, -9.0, -0.1, -0.2, -0.3, -0.4, -0.5])
    options = DecodingOptions(beam_size=1, max_length=5, no_repeat_ngram=1, min_length=5)
    assert tokens(model.search(options)) == [[(2, 3, 4, 5, 6)]] * 2


def test_a_pair_comes_once_and_its_words_again() -> None:
    model = model_of([-INF, -5.0, -0.1, -3.0])
    options = DecodingOptions(beam_size=1, max_length=5, no_repeat_ngram=2, min_length=5)
    # 2 2 came, so the third is 3; 2 again; 2 2 and 2 3 came both, so only the end is left: too early, and it is cut.
    (best,) = model.search(options)[1]
    assert (best.tokens, best.finished) == ((2, 2, 3, 2), False)
    assert tokens(model.search(replace(options, min_length=4))) == [[(2, 2, 3, 2)]] * 2


def test_a_least_length_holds_back_the_end_and_nothing_else() -> None:
    model = model_of([-INF, -0.1, -3.0, -4.0])
    best = model.search(DecodingOptions(beam_size=2, num_captions=2, max_length=4, min_length=2))[1]
    assert [h.tokens for h in best] == [(2, 2), (3, 2)]
    assert best[0].log_prob == pytest.approx(-6.1)


def test_controls_see_only_the_candidates_they_asked_for() -> None:
    options = DecodingOptions(beam_size=2, max_length=6, no_repeat_ngram=2)
    model = model_of([-INF, *np.linspace(-1, -3, 30).tolist()])
    _, stepper = model.watched_search(options)
    assert isinstance(stepper, TableStepper)
    assert stepper.shown[0][2] == 2 + 1 + 1 + 5 < 31


# The forced word 5 is the last of six, and row 1, where it leads, likes 2 best.
FORCED = model_of(
    [-INF, -0.5, -1.0, -2.0, -3.0, -4.0],
    [-INF, -0.7, -0.6, -2.0, -3.0, -4.0],
    following=[[0, 0, 0, 0, 0, 1]] * 2,
    images=3,
)


def test_forced_words_are_scored_with_the_whole_vocabulary_at_one_beam() -> None:
    options = DecodingOptions(beam_size=2, num_captions=2, max_length=3, length_penalty=1.0)
    found, stepper = replace(FORCED, prefix=(5, 4)).watched_search(options, pruning=None)
    assert stepper.shown[:3] == [(3, 1, 6), (3, 1, 6), (3, 1, 4)]
    for best in found:
        assert [h.tokens for h in best] == [(5, 4, 2), (5, 4, 3)]
        assert [h.log_prob for h in best] == pytest.approx([-4.0 - 3.0 - 1.0 - 0.5, -4.0 - 3.0 - 2.0 - 0.5])
        assert best[0].score == pytest.approx(-8.5 / 4)


def test_forced_words_alone_and_the_end() -> None:
    options = DecodingOptions(beam_size=2, max_length=2)
    (best,) = replace(FORCED, prefix=(5, 5)).search(options)[2]
    assert (best.tokens, best.finished) == ((5, 5), True)


def test_an_impossible_forced_word_leaves_what_stands_before_it() -> None:
    model = replace(FORCED, prefix=(5, 0), banned=())
    for (best,) in model.search(DecodingOptions(beam_size=2, max_length=4)):
        assert (best.tokens, best.log_prob, best.finished) == ((5,), -4.0, False)


def test_forced_words_count_among_those_that_do_not_repeat() -> None:
    options = DecodingOptions(beam_size=1, max_length=3, no_repeat_ngram=1, min_length=3)
    # The forced ones themselves may repeat.
    assert tokens(replace(FORCED, prefix=(2, 2)).search(options)) == [[(2, 2, 3)]] * 3
