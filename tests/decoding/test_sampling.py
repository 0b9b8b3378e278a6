"""Sampling against the true distribution, each filter by hand, and streams that belong to their image alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import (
    END,
    INF,
    START,
    Model,
    allowed,
    candidates_needed,
    decodings,
    exhaustive,
    model_of,
    policies,
    prefixed_models,
    rescored,
    same_attention,
)
from PIL import Image

from batchcap.decoding.pruning import PruningPolicy, prune_by_halves
from batchcap.errors import OptionError
from batchcap.options.decoding import DecodingOptions
from batchcap.runtime.captioner import Captioner

MANY = 20_000
SAMPLE = DecodingOptions(search="sample", beam_size=1, max_length=3)
# Row 0: <end> 0.1, 2: 0.4, 3: 0.3, 4: 0.2. Row 1, after 2: <end> 0.5, 2: 0.1, 3: 0.4.
TABLE = model_of(
    [-INF, *np.log([0.1, 0.4, 0.3, 0.2]).tolist()],
    [-INF, *np.log([0.5, 0.1, 0.4]).tolist(), -INF],
    following=[[0, 0, 1, 0, 0]] * 2,
    images=MANY,
)


def first_tokens(model: Model, options: DecodingOptions) -> Counter[int]:
    """How often each token comes first, <end> among them, in as many images as the model has."""
    return Counter((*best[0].tokens, END)[0] for best in model.search(options))


def chi_square(counts: Counter, chances: dict) -> float:
    assert set(counts) <= set(chances)
    total = sum(counts.values())
    return sum((counts[key] - total * chance) ** 2 / (total * chance) for key, chance in chances.items())


def test_samples_follow_the_true_distribution() -> None:
    # Two words at most: after them only <end> is allowed, so a caption's chance is that of its words.
    options = replace(SAMPLE, max_length=2)
    chances: dict[tuple[int, ...], float] = {}
    for h in exhaustive(TABLE, 0, options):
        closing = rescored(TABLE, 0, (*h.tokens, END)) - rescored(TABLE, 0, h.tokens) if len(h.tokens) == 2 else 0.0
        chances[h.tokens] = float(np.exp(h.log_prob - closing))
    assert sum(chances.values()) == pytest.approx(1)
    counts = Counter(best[0].tokens for best in TABLE.search(options))
    # Of chi-square with 11 degrees of freedom, 0.1% lies above 31.3.
    assert len(chances) == 12
    assert chi_square(counts, chances) < 31.3


def test_several_samples_of_an_image_are_independent() -> None:
    model = replace(TABLE, rows=(0,) * 5000)
    options = replace(SAMPLE, num_captions=2, max_length=1)
    drawn = Counter(frozenset(h.tokens for h in best) for best in model.search(options))
    one = {(): 0.1, (2,): 0.4, (3,): 0.3, (4,): 0.2}
    chances = {frozenset((a, b)): one[a] * one[b] * (1 + (a != b)) for a in one for b in one}
    # 10 pairs: 0.1% lies above 27.9.
    assert chi_square(drawn, chances) < 27.9


@pytest.mark.parametrize(
    ("filters", "weights"),
    [
        ({}, {END: 1, 2: 4, 3: 3, 4: 2}),
        ({"top_k": 2}, {2: 4, 3: 3}),
        ({"top_k": 100}, {END: 1, 2: 4, 3: 3, 4: 2}),
        ({"temperature": 0.5}, {END: 1, 2: 16, 3: 9, 4: 4}),
        ({"temperature": 2.0}, {END: 1, 2: 2, 3: 3**0.5, 4: 2**0.5}),
        # 0.4 + 0.3 reaches 0.65; 0.4 alone reaches 0.4 only just, in float32.
        ({"top_p": 0.65}, {2: 4, 3: 3}),
        ({"top_p": 0.39}, {2: 1}),
        ({"top_p": 1e-9}, {2: 1}),
        # Sharpened, 16/30 + 9/30 reaches 0.8: the temperature comes first.
        ({"top_p": 0.8, "temperature": 0.5}, {2: 16, 3: 9}),
        # Of the three best, 4/9 + 3/9 reaches 0.75: top-k comes first.
        ({"top_p": 0.75, "top_k": 3}, {2: 4, 3: 3}),
        ({"top_p": 0.75, "top_k": 3, "temperature": 0.5}, {2: 16, 3: 9}),
        # <end> is too early, and what is forbidden takes no place among the best.
        ({"top_k": 3, "min_length": 1}, {2: 4, 3: 3, 4: 2}),
    ],
)
def test_filters(filters: dict, weights: dict[int, float]) -> None:
    whole = sum(weights.values())
    counts = first_tokens(TABLE, replace(SAMPLE, **filters))
    # 3 degrees of freedom: 0.1% lies above 16.3.
    assert chi_square(counts, {token: weight / whole for token, weight in weights.items()}) < 16.3


def test_the_best_are_taken_among_those_allowed() -> None:
    model = replace(TABLE, banned=(START, 2))
    assert set(first_tokens(model, replace(SAMPLE, top_k=1))) == {3}
    assert candidates_needed(replace(SAMPLE, top_k=1), 3000, (START, 2)) == 4
    assert candidates_needed(SAMPLE, 3000, (START, 2)) == 3000


@settings(deadline=None)
@given(
    prefixed_models(),
    decodings(),
    st.integers(0, 4),
    st.sampled_from([0.01, 0.7, 1.0, 3.0]),
    st.integers(0, 9),
    policies,
)
def test_samples_keep_the_rules_and_have_the_models_own_scores(
    model: Model, options: DecodingOptions, top_k: int, temperature: float, seed: int, pruning: PruningPolicy | None
) -> None:
    options = replace(
        options, search="sample", beam_size=1, top_k=top_k, temperature=temperature, seed=seed, num_captions=4
    )
    model = replace(model, prefix=model.prefix[: options.max_length])
    for image, found in enumerate(model.search(options, pruning=pruning, attention=True)):
        same_attention(found, image)
        assert 1 <= len(found) <= 4
        assert len({h.tokens for h in found}) == len(found)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for h in found:
            generated = (*h.tokens, END) if h.finished else h.tokens
            assert all(allowed(model, options, generated[:i], token) for i, token in enumerate(generated))
            assert h.log_prob == pytest.approx(rescored(model, image, generated))
            assert h.score == pytest.approx(h.log_prob / max(len(generated), 1) ** options.length_penalty)


@settings(deadline=None)
@given(prefixed_models(max_images=7), st.randoms(use_true_random=False), st.integers(1, 3))
def test_a_stream_belongs_to_its_image(model: Model, random: object, count: int) -> None:
    options = replace(SAMPLE, max_length=5, num_captions=count)
    streams = [random.getrandbits(64) for _ in model.rows]
    together = model.search(options, streams=streams)
    assert together == model.search(options, streams=streams, pruning=None)
    assert together == model.search(options, streams=streams, pruning=prune_by_halves)
    assert together == [model.only(i).search(options, streams=[streams[i]])[0] for i in range(len(streams))]
    order = list(range(len(streams)))
    random.shuffle(order)
    shuffled = model.only(*order).search(options, streams=[streams[i] for i in order])
    assert shuffled == [together[i] for i in order]


def test_other_seeds_and_streams_draw_other_captions() -> None:
    model, options = replace(TABLE, rows=(0,) * 50), replace(SAMPLE, max_length=10)
    first = model.search(options)
    assert first == model.search(options, streams=range(50))
    assert first != model.search(replace(options, seed=1))
    assert first != model.search(options, streams=range(50, 100))


def test_samples_do_not_depend_on_the_batch_but_on_the_name(tiny_bundle: Path, tmp_path: Path) -> None:
    files = [str(tmp_path / f"{index}.png") for index in range(9)]
    for file in files:
        Image.fromarray(np.full((8, 8, 3), (90, 90, 90), np.uint8)).save(file)
    chosen = {"search": "sample", "num_captions": 2, "max_length": 8, "seed": 5}

    def sampled(batch_size: int, images: list) -> list:
        found = Captioner.load(tiny_bundle, "cpu", batch_size, **chosen).caption(images)
        return [[caption.caption for caption in image.captions] for image in found]

    alone = sampled(1, files)
    assert len({tuple(best) for best in alone}) > 1
    assert sampled(4, files) == alone
    assert sampled(9, files[::-1]) == alone[::-1]
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert sampled(4, [files[0], tmp_path / "broken.png", *files[1:]]) == [alone[0], [], *alone[1:]]
    # Arrays have their place for a name, whatever stands between them.
    grey = np.full((8, 8, 3), (90, 90, 90), np.uint8)
    arrays = sampled(2, [grey] * 6)
    assert sampled(5, [grey, files[1], *[grey] * 4]) == [arrays[0], alone[1], *arrays[2:]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "--temperature 0.0: must be from 0.01 to 100"),
        ({"temperature": float("nan")}, "--temperature nan: must be"),
        ({"top_k": -1}, "--top-k -1: must be at least 0"),
        ({"top_p": 0.0}, "--top-p 0.0: must be above 0"),
        ({"top_p": 1.1}, "--top-p 1.1: must be above 0"),
        ({"seed": -1}, "--seed -1: must be from 0"),
        ({"beam_size": 3}, "--beam-size 3 goes with --search beam. Sampling has no beam"),
        ({"search": "beam", "seed": 1}, "--seed 1 goes with --search sample"),
        ({"search": "greedy", "top_k": 10}, "--top-k 10 goes with --search sample"),
    ],
)
def test_options_that_cannot_work(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DecodingOptions(**{"search": "sample", "beam_size": 1, **options})


def test_every_option_is_part_of_the_label() -> None:
    changed = [{}, {"temperature": 0.5}, {"top_k": 10}, {"top_p": 0.9}, {"seed": 1}]
    labels = {replace(SAMPLE, **one).label for one in changed}
    assert len(labels) == len(changed)
    assert all(label.startswith("sample-lp0.7;") for label in labels)
