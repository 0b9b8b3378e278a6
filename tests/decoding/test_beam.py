"""Beam search against an independent plain-Python one, against all sequences there are, and at its edges."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import (
    END,
    INF,
    PENALTIES,
    START,
    Model,
    adversarial_model,
    allowed,
    candidates_needed,
    decodings,
    exhaustive,
    model_of,
    models,
    naive,
    penalties,
    policies,
    prefixed_models,
    rescored,
    same,
    same_attention,
    tokens,
)

from batchcap.decoding.driver import search
from batchcap.decoding.pruning import PruningPolicy, prune_at_once, prune_by_halves
from batchcap.decoding.request import SearchRequest
from batchcap.decoding.types import Hypothesis, StepOutput
from batchcap.options.decoding import DecodingOptions


@settings(deadline=None, max_examples=300)
@given(prefixed_models(), decodings(), policies)
def test_equals_the_naive_search(model: Model, options: DecodingOptions, pruning: PruningPolicy | None) -> None:
    model = replace(model, prefix=model.prefix[: options.max_length])
    for image, found in enumerate(model.search(options, pruning=pruning, attention=True)):
        same(found, naive(model, image, options))
        same_attention(found, image)


@settings(deadline=None, max_examples=100)
@given(prefixed_models(max_words=3, max_images=4), st.integers(1, 3), penalties, st.data(), st.sampled_from([0, 1, 2]))
def test_a_wide_beam_equals_exhaustive_search(
    model: Model, length: int, penalty: float, data: st.DataObject, ngram: int
) -> None:
    # One beam more than the last step has extensions: no end is ever met after the beam is full.
    beams = 3 ** (length + 1) + 1
    model = replace(model, prefix=model.prefix[:length])
    count = data.draw(st.integers(1, beams))
    options = DecodingOptions(
        beam_size=beams,
        num_captions=count,
        max_length=length,
        length_penalty=penalty,
        min_length=data.draw(st.integers(0, length)),
        no_repeat_ngram=ngram,
    )
    for image, found in enumerate(model.search(options)):
        expected = exhaustive(model, image, options)
        if not expected:
            assert not any(h.finished for h in found)
            continue
        assert [h.score for h in found] == pytest.approx([h.score for h in expected[:count]])
        # Equal scores may stand in any order.
        assert {h.tokens for h in found} <= {h.tokens for h in expected if h.score >= found[-1].score - 1e-9}
        assert len({h.tokens for h in found}) == len(found)
        assert all(h.finished for h in found)


def smooth(seed: int, words: int) -> Model:
    """Every token follows every token, and the end is one of the less likely."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1, (5, words + 1))
    logits[:, 0] -= 2
    log_prob = np.full((5, words + 2), -INF)
    log_prob[:, END:] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return Model(log_prob.astype(np.float32), random.integers(0, 5, log_prob.shape), (0,))


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_beam_as_wide_as_all_prefixes_equals_exhaustive_search(penalty: float) -> None:
    """Five words and the end, 125 prefixes of three words: 128 beams hold them all, and every end must be heard."""
    options = DecodingOptions(beam_size=128, max_length=3, length_penalty=penalty)
    for seed in range(64):
        model = smooth(seed, words=5)
        (best,) = model.search(options)[0]
        first, second = exhaustive(model, 0, options)[:2]
        assert best.score == pytest.approx(first.score)
        # What comes in another order adds up otherwise in the last digit.
        assert best.finished
        assert best.tokens == first.tokens or first.score - second.score < 1e-9


def test_no_valid_end_is_crowded_out_of_the_last_step() -> None:
    """All three beams can end at the last step, so that there are always three captions, and they are better."""
    options = DecodingOptions(beam_size=3, num_captions=3, max_length=3, length_penalty=1.0)
    best = 0
    for seed in range(64):
        model = smooth(seed, words=5)
        (found,) = model.search(options)
        assert len(found) == 3
        best += found[0].tokens == exhaustive(model, 0, options)[0].tokens
    assert best == 43  # 25 where words that cannot be taken fill the last step


def test_an_end_that_is_the_last_of_the_vocabulary_is_among_the_candidates_of_the_last_step() -> None:
    words = 20
    model = model_of([-INF, -30.0, *np.linspace(-1, -20, words).tolist()])
    options = DecodingOptions(beam_size=2, num_captions=2, max_length=2, length_penalty=1.0)
    found, stepper = model.watched_search(options)
    assert [shape[2] for shape in stepper.shown] == [4, 4, words + 2]
    assert [(h.tokens, h.finished) for h in found[1]] == [((2, 2), True), ((3, 2), True)]


@settings(deadline=None)
@given(models(), decodings())
def test_rescoring_returns_the_same_score(model: Model, options: DecodingOptions) -> None:
    for image, found in enumerate(model.search(options)):
        assert 1 <= len(found) <= options.num_captions
        for h in found:
            generated = (*h.tokens, END) if h.finished else h.tokens
            assert len(h.tokens) <= options.max_length
            assert END not in h.tokens
            assert all(allowed(model, options, generated[:i], token) for i, token in enumerate(generated))
            assert h.log_prob == pytest.approx(rescored(model, image, generated))
            assert h.score == pytest.approx(h.log_prob / max(len(generated), 1) ** options.length_penalty)


@settings(deadline=None)
@given(models(max_images=7), decodings(), st.randoms(use_true_random=False))
def test_neighbours_and_their_order_change_nothing(model: Model, options: DecodingOptions, random: object) -> None:
    together = model.search(options)
    assert together == [model.only(image).search(options)[0] for image in range(len(model.rows))]
    order = list(range(len(model.rows)))
    random.shuffle(order)
    assert model.only(*order).search(options) == [together[image] for image in order]


@settings(deadline=None)
@given(models(max_words=4), st.integers(1, 5), st.integers(1, 5))
def test_ended_beams_never_starve_the_living(model: Model, beams: int, length: int) -> None:
    # <end> is the likeliest token everywhere, every word is possible, and all beams are asked for.
    log_prob = np.where(np.isfinite(model.log_prob), np.minimum(model.log_prob, -0.5), -3)
    log_prob[:, END] = -0.01
    model = replace(model, log_prob=log_prob.astype(np.float32), banned=(START,))
    options = DecodingOptions(beam_size=beams, num_captions=beams, max_length=length, length_penalty=2.0)
    found, stepper = model.watched_search(options, pruning=None)
    words = log_prob.shape[1] - 2
    for step, fed in enumerate(stepper.fed[1:], start=1):
        living = (fed != END).sum(axis=1)
        # An image that is done has no living beam any more; there is nothing between full and done.
        assert ((living == 0) | (living >= min(beams, words**step))).all()
    # The best beam's <end> is always the first of all.
    assert all(len(best) >= min(beams, length + 1) for best in found)
    assert all(h.finished for best in found for h in best)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beams", [1, 2, 3, 8, 40])
def test_adversaries_in_one_batch(beams: int, penalty: float) -> None:
    """Exactly the naive search, which is never done early, whatever ends first and how few there are."""
    length = 5
    model = adversarial_model(length)
    for least, count, pruning in itertools.product(
        (0, 1, length), sorted({1, beams}), (None, prune_at_once, prune_by_halves)
    ):
        options = DecodingOptions(
            beam_size=beams, num_captions=count, max_length=length, length_penalty=penalty, min_length=least
        )
        for image, found in enumerate(model.search(options, pruning=pruning, attention=True)):
            same(found, naive(model, image, options))
            same_attention(found, image)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("least", [0, 1, 3])
def test_adversaries_against_all_sequences(penalty: float, least: int) -> None:
    length = 3
    model, beams = adversarial_model(length), 3 ** (length + 1) + 1
    options = DecodingOptions(
        beam_size=beams, num_captions=beams, max_length=length, length_penalty=penalty, min_length=least
    )
    for image, found in enumerate(model.search(options)):
        expected = exhaustive(model, image, options)
        if not expected:
            assert not any(h.finished for h in found)
            continue
        assert [h.score for h in found] == pytest.approx([h.score for h in expected])
        assert {h.tokens for h in found} == {h.tokens for h in expected}


@pytest.mark.parametrize(("penalty", "steps"), [(0.0, 1), (0.5, 1), (1.0, 1), (1.5, 3), (2.0, 8)])
def test_done_exactly_when_the_bound_says_so(penalty: float, steps: int) -> None:
    # <end> costs 0.5, a word 4: -0.5 is to beat, and after n words the bound is -4 n / 8 ** penalty (equal at 1.0).
    model = model_of([-INF, -0.5, -4.0])
    options = DecodingOptions(beam_size=1, max_length=7, length_penalty=penalty)
    found, stepper = model.watched_search(options)
    assert len(stepper.fed) == steps
    # At 2.0 the longest, (7 * 4 + 0.5) / 64, beats all.
    assert tokens(found) == [[(2,) * 7 if penalty == 2 else ()]] * 2


def test_an_end_that_comes_first_finishes_and_the_rest_lives_on() -> None:
    # After any token: <end> 0.5, 2: 0.4, 3: 0.1. Without a length penalty nothing beats ending at once.
    model = model_of([-INF, *np.log([0.5, 0.4, 0.1]).tolist()])
    assert tokens(model.search(DecodingOptions(beam_size=2, max_length=4, length_penalty=0.0))) == [[()]] * 2
    # By the mean of the log-probabilities it is beaten by ending later: (4 ln 0.4 + ln 0.5) / 5 < ln 0.5.
    best = model.search(DecodingOptions(beam_size=2, num_captions=2, max_length=4, length_penalty=1.0))[1]
    assert [h.tokens for h in best] == [(), (2,)]
    best = model.search(DecodingOptions(beam_size=2, max_length=4, length_penalty=2.0))[1]
    assert [h.tokens for h in best] == [(2, 2, 2, 2)]


def test_an_end_after_the_last_living_one_is_not_finished() -> None:
    model = model_of([-INF, -2.0, -0.5, -1.0])
    best = model.search(DecodingOptions(beam_size=2, max_length=1, length_penalty=0.0))[0]
    # Step one takes 2 and 3, so <end> (third) is not met, although it costs less than what ends in step two.
    assert [(h.tokens, h.log_prob, h.finished) for h in best] == [((2,), -2.5, True)]
    best = model.search(DecodingOptions(beam_size=3, max_length=1, length_penalty=0.0))[0]
    assert [(h.tokens, h.log_prob, h.finished) for h in best] == [((), -2.0, True)]


def test_a_model_that_never_ends_is_cut() -> None:
    model = model_of([-INF, -INF, -0.5, -1.0])
    options = DecodingOptions(beam_size=2, num_captions=2, max_length=3, length_penalty=1.0)
    for best in model.search(options):
        assert best == [
            Hypothesis((2, 2, 2), -1.5, -0.5, finished=False),
            Hypothesis((3, 2, 2), -2.0, -2 / 3, finished=False),
        ]


def test_cut_hypotheses_stay_out_where_one_finished() -> None:
    # Row 0 leads to 1 by token 2 and to 2 by token 3; only after 3 can it end.
    model = model_of(
        [-INF, -INF, -0.1, -3.0],
        [-INF, -INF, -0.1, -INF],
        [-INF, -0.1, -INF, -INF],
        following=[[0, 0, 1, 2], [0, 0, 1, 1], [0, 0, 2, 2]],
    )
    best = model.search(DecodingOptions(beam_size=2, num_captions=2, max_length=4, length_penalty=0.0))[0]
    assert [(h.tokens, h.finished) for h in best] == [((3,), True)]


def test_equal_totals_take_the_lower_token_then_the_lower_beam() -> None:
    model = model_of([-INF, -INF, -1.0, -1.0, -1.0])
    options = DecodingOptions(beam_size=3, num_captions=3, max_length=2, length_penalty=1.0)
    # Step two: nine equal totals; token 2 of the beams 0, 1, 2.
    assert tokens(model.search(options)) == [[(2, 2), (3, 2), (4, 2)]] * 2


def test_of_equal_scores_the_one_that_finished_first_leads() -> None:
    model = model_of([-INF, -1.0, 0.0, -9.0])
    options = DecodingOptions(beam_size=2, num_captions=2, max_length=3, length_penalty=0.0)
    assert tokens(model.search(options)) == [[(), (2,)]] * 2


@pytest.mark.parametrize("beams", [1, 3])
def test_a_vocabulary_of_end_alone(beams: int) -> None:
    class Ends:
        def step(self, token: np.ndarray, parent: np.ndarray, **_: object) -> StepOutput:
            shape = (*token.shape, 1)
            return StepOutput(np.full(shape, -0.25, np.float32), np.zeros(shape, np.int64))

        def select(self, rows: np.ndarray) -> None:
            raise AssertionError("nothing is left to select")

    options = DecodingOptions(beam_size=beams)
    assert candidates_needed(options, 1) == 1
    found = search(Ends(), SearchRequest(images=2, options=options, start=0, end=0, vocabulary_size=1))
    assert found == [[Hypothesis((), -0.25, -0.25, finished=True)]] * 2


def test_a_start_that_is_also_the_end_can_end() -> None:
    model = model_of([-0.1, -5.0, -3.0])
    options = DecodingOptions(beam_size=1)
    assert tokens(model.search(options, start=0, end=0)) == [[()]] * 2


def test_more_beams_than_sequences() -> None:
    model = model_of([-INF, -1.0, -0.5])
    options = DecodingOptions(beam_size=50, num_captions=50, max_length=3, length_penalty=0.0)
    assert tokens(model.search(options)) == [[(), (2,), (2, 2), (2, 2, 2)]] * 2


def test_impossible_and_not_a_number_harm_only_their_own_image() -> None:
    good, nothing, broken = [-INF, -1.0, -0.5, -2.0], [-INF] * 4, [float("nan")] * 4
    following = [[0] * 4, [1] * 4, [2] * 4]
    model = replace(model_of(good, nothing, broken, following=following), rows=(0, 1, 2, 0))
    options = DecodingOptions(beam_size=2, num_captions=2, max_length=3)
    found = model.search(options)
    assert found[0] == found[3] == model.only(0).search(options)[0]
    assert found[1] == found[2] == [Hypothesis((), 0.0, 0.0, finished=False)]


def test_it_stops_when_nothing_can_get_better() -> None:
    model = model_of([-INF, -0.01, -5.0, -6.0])
    _, stepper = model.watched_search(DecodingOptions(beam_size=3, max_length=30, length_penalty=0.0))
    assert len(stepper.fed) == 1


def test_an_equal_bound_is_no_reason_to_go_on() -> None:
    model = model_of([-INF, -1.0, -1.0, -9.0])
    found, stepper = model.watched_search(DecodingOptions(beam_size=2, max_length=30, length_penalty=0.0))
    assert tokens(found) == [[()]] * 2
    assert len(stepper.fed) == 1
