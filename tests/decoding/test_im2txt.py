"""The search of the Show and Tell code: its published cases, and a plain-Python reading of its rules."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import WORDS, Tables, build_bundle, random_tables
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import (
    END,
    IM2TXT_TABLE,
    INF,
    PENALTIES,
    START,
    Model,
    adversarial_model,
    allowed,
    decodings,
    policies,
    prefixed_models,
    same,
    same_attention,
)

from batchcap.decoding.pruning import PruningPolicy, prune_by_halves
from batchcap.decoding.types import Hypothesis
from batchcap.images.pixels import preprocess
from batchcap.options.decoding import DecodingOptions
from batchcap.runtime.captioner import Captioner


def published() -> Model:
    chances = np.zeros((12, 12))
    for word in range(12):
        for following, chance in IM2TXT_TABLE.get(word, [(1, 1.0)]):
            chances[word, following] = chance
    with np.errstate(divide="ignore"):
        log_prob = np.log(chances).astype(np.float32)
    return Model(log_prob, np.tile(np.arange(12), (12, 1)), (START,) * 3)


def found(beam_size: int, max_length: int = 19, length_penalty: float = 0.0) -> list[tuple[list[int], float]]:
    """As those tests have it; their longest caption counts the 0, --max-length does not."""
    options = DecodingOptions(
        search="im2txt",
        beam_size=beam_size,
        num_captions=beam_size,
        max_length=max_length,
        length_penalty=length_penalty,
    )
    first, *others = published().search(options)
    assert others == [first, first]
    return [([START, *h.tokens, *[END] * h.finished], pytest.approx(math.exp(h.log_prob))) for h in first]


def test_the_published_beams() -> None:
    best, second, third = ([0, 2, 6, 1], 0.18), ([0, 4, 10, 1], 0.16), ([0, 3, 8, 1], 0.15)
    assert found(1) == [second]
    assert found(2) == [second, third]
    assert found(3) == [best, second, third]


def test_the_published_lengths() -> None:
    assert found(3, max_length=1) == [([0, 4], 0.4), ([0, 3], 0.3), ([0, 2], 0.2)]
    assert found(3, max_length=2) == [([0, 4, 1], 0.12), ([0, 3, 1], 0.03)]
    assert found(3, max_length=3) == [([0, 2, 6, 1], 0.18), ([0, 4, 10, 1], 0.16), ([0, 3, 8, 1], 0.15)]


def test_the_published_length_factor() -> None:
    """At 3 the longest is the best: log(0.06) / 5 ** 3 is above log(0.18) / 4 ** 3."""
    longest, *others = ([0, 4, 9, 11, 1], 0.06), ([0, 2, 6, 1], 0.18), ([0, 4, 10, 1], 0.16), ([0, 3, 8, 1], 0.15)
    assert found(4, length_penalty=3.0) == [longest, *others]


def test_start_and_end_count_in_the_length() -> None:
    options = DecodingOptions(search="im2txt", beam_size=4, num_captions=4, length_penalty=2.0)
    for best in published().search(options):
        scores = {h.tokens: h.score for h in best}
        assert scores[2, 6] == pytest.approx(math.log(0.18) / 4**2)
        assert scores[4, 9, 11] == pytest.approx(math.log(0.06) / 5**2)
        # A third as likely as those behind it, and ahead of them by its length alone. It is there because (4, 9) and
        # (3, 7), which are equal, are met in this order.
        assert [h.tokens for h in best] == [(2, 6), (4, 9, 11), (4, 10), (3, 8)]


def naive(model: Model, image: int, options: DecodingOptions) -> list[Hypothesis]:
    partial, complete = [((), 0.0, model.rows[image], START)], []
    for words in range(options.max_length):
        offered = []
        for beam, (tokens, total, row, last) in enumerate(partial):
            table = model.log_prob[model.following[row, last]].tolist()
            may = [t for t in range(len(table)) if table[t] > -INF and allowed(model, options, tokens, t)]
            words_and_chances = sorted(may, key=lambda t, table=table: (-table[t], t))[: options.beam_size]
            offered += [(-(total + table[t]), beam, t) for t in words_and_chances if math.exp(table[t]) >= 1e-12]
        following = []
        # Stable: of equals, the lower beam, then the better word.
        for negative, beam, token in sorted(offered, key=lambda offer: offer[0]):
            tokens, _, row, last = partial[beam]
            if token == END:
                score = -negative / (words + 2) ** options.length_penalty
                complete.append(Hypothesis(tokens, -negative, score, finished=True))
            else:
                following.append(((*tokens, token), -negative, int(model.following[row, last]), token))
        if not following:
            break
        partial = following[: options.beam_size]
    cut = [Hypothesis(tokens, total, total, finished=False) for tokens, total, _, _ in partial]
    return sorted(complete or cut, key=lambda h: -h.score)[: options.num_captions]


@settings(deadline=None, max_examples=300)
@given(prefixed_models(), decodings(), st.sampled_from([0.0, 0.7, 2.0, 3.0, 10.0]), policies)
def test_equals_the_naive_search(
    model: Model, options: DecodingOptions, factor: float, pruning: PruningPolicy | None
) -> None:
    model = replace(model, prefix=model.prefix[: options.max_length])
    options = replace(options, search="im2txt", length_penalty=factor)
    for image, best in enumerate(model.search(options, pruning=pruning, attention=True)):
        same(best, naive(model, image, options))
        same_attention(best, image)


@pytest.mark.parametrize("beams", [1, 2, 3, 40])
def test_adversaries_in_one_batch(beams: int) -> None:
    model = adversarial_model(5)
    for penalty, least in itertools.product(PENALTIES, (0, 1, 5)):
        options = DecodingOptions(
            search="im2txt",
            beam_size=beams,
            num_captions=beams,
            max_length=5,
            length_penalty=penalty,
            min_length=least,
        )
        for image, best in enumerate(model.search(options, pruning=prune_by_halves, attention=True)):
            same(best, naive(model, image, options))
            same_attention(best, image)


@settings(deadline=None)
@given(prefixed_models(max_images=7), decodings())
def test_neighbours_change_nothing(model: Model, options: DecodingOptions) -> None:
    model = replace(model, prefix=model.prefix[: options.max_length])
    options = replace(options, search="im2txt")
    alone = [model.only(image).search(options)[0] for image in range(len(model.rows))]
    assert model.search(options) == alone


def test_words_of_no_chance_are_not_taken() -> None:
    table = np.array([[-INF, -INF, -0.1, -28.0]], np.float32)
    model = Model(table, np.zeros((1, 4), int), (0, 0))
    options = DecodingOptions(search="im2txt", beam_size=2, num_captions=2, max_length=2)
    # exp(-28) is below 1e-12.
    assert [[h.tokens for h in best] for best in model.search(options)] == [[(2, 2)]] * 2


def test_a_captioner_with_it(tiny_bundle: Path) -> None:
    images = [np.full((8, 8, 3), level, np.uint8) for level in (20, 90, 200)]
    captioner = Captioner.load(tiny_bundle, "cpu", search="im2txt", num_captions=2)
    assert captioner.decoding.label.startswith("im2txt3-lp0.7;num_captions=2;")
    for image in captioner.caption(images):
        assert len(image.captions) == 2
        said = image.captions[0]
        assert said.score == pytest.approx(said.log_prob / (len(said.caption.split()) + 2) ** 0.7)


def test_a_caption_that_never_ended_is_printed_without_its_last_word(tmp_path: Path) -> None:
    """As the tool's ``sentence[1:-1]``; its p, and so log_prob, is that of all the words."""
    bundle = build_bundle(tmp_path / "b", random_tables(3, 10, 12))
    images = [np.full((8, 8, 3), level, np.uint8) for level in (20, 90, 200)]
    captioner = Captioner.load(bundle, "cpu", search="im2txt", num_captions=3, max_length=2, min_length=2)
    pixels = np.stack([preprocess(image, captioner.bundle.manifest.preprocess) for image in images])
    say = captioner.bundle.vocabulary.detokenize
    for image, found in zip(captioner.caption(images, attention=True), captioner.hypotheses(pixels, 3), strict=True):
        assert [(len(h.tokens), h.finished) for h in found] == [(2, False)] * 3
        best = {h.tokens[:1]: h for h in reversed(found)}
        assert len(image.captions) == len(best)
        for caption, tokens, weights in zip(image.captions, image.tokens, image.attention, strict=True):
            assert len(tokens) == len(weights) == 1
            assert caption.caption == say(tokens)
            assert (caption.log_prob, caption.score) == (best[tokens].log_prob, best[tokens].score)
    # One word and no end: the tool prints nothing of it, which is no fault of the model.
    (image,) = Captioner.load(bundle, "cpu", search="im2txt", max_length=1, min_length=1).caption(images[:1])
    assert [c.caption for c in image.captions] == [""]


def test_the_start_may_be_said_where_the_original_lets_it(tmp_path: Path) -> None:
    logits = np.zeros((2, len(WORDS)), np.float32)
    logits[:, 1], logits[:, 4], logits[:, 2] = 9, 6, -9
    tables = Tables(logits, np.ones((2, len(WORDS)), np.int64), np.zeros((3, len(WORDS)), np.float32))
    bundle = build_bundle(tmp_path / "b", tables)

    def said(**chosen: object) -> set[str]:
        captioner = Captioner.load(bundle, "cpu", max_length=4, **chosen)
        (image,) = captioner.caption([np.zeros((8, 8, 3), np.uint8)])
        return set(image.captions[0].caption.split())

    assert said(search="im2txt", allow_unknown=True) == {"<start>"}
    assert said(search="im2txt") == said(search="beam", allow_unknown=True) == {WORDS[4]}
    assert said(search="im2txt", allow_unknown=True, ban=("<start>",)) == {WORDS[4]}
