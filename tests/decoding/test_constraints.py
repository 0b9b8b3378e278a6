"""Control over captions: bans, a least length, no repeated n-grams, and the words that people choose them with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import build_bundle, random_tables
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import INF, Model, TableStepper, candidates_needed, decodings, model_of, models, naive, same, tokens

from batchcap.bundle.bundle import open_bundle
from batchcap.bundle.token_lookup import banned_tokens
from batchcap.errors import OptionError
from batchcap.options.decoding import DecodingOptions, explain_label
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options

IMAGES = [np.full((8, 8, 3), colour, np.uint8) for colour in [(250, 10, 10), (10, 250, 10), (90, 90, 90)]]


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


def captions(folder: Path, **chosen: object) -> list[str]:
    found = Captioner.load(folder, "cpu", **chosen).caption(IMAGES)
    return [caption.caption for image in found for caption in image.captions]


def test_banned_words_are_not_said(tiny_bundle: Path, tmp_path: Path) -> None:
    said = set(" ".join(captions(tiny_bundle)).split())
    word, other = sorted(said)[:2]
    (tmp_path / "bans.txt").write_bytes(f"\ufeff {other}\r\n\n".encode())
    assert not {word, other} & set(
        " ".join(captions(tiny_bundle, ban=[word], ban_file=tmp_path / "bans.txt", num_captions=3)).split()
    )


def test_unknown_words_are_said_only_where_allowed(tmp_path: Path) -> None:
    tables = random_tables()
    tables.logits[:, 3] += 20
    folder = build_bundle(tmp_path / "b", tables)
    assert all("<unk>" not in caption for caption in captions(folder))
    assert all("<unk>" in caption for caption in captions(folder, allow_unknown=True, min_length=1))
    # It is a word like others, and can be banned like them.
    assert all("<unk>" not in caption for caption in captions(folder, allow_unknown=True, ban=["<unk>"]))


def test_captions_begin_as_told(tiny_bundle: Path) -> None:
    found = Captioner.load(tiny_bundle, "cpu", prefix="  blue   dog ", num_captions=2, max_length=8).caption(IMAGES)
    tables, ids = random_tables(), open_bundle(tiny_bundle).vocabulary.id_of
    for array, image in zip(IMAGES, found, strict=True):
        for caption in image.captions:
            said = caption.caption.split()
            assert said[:2] == ["blue", "dog"]
            expected = tables.log_prob(array[0, 0], (*map(ids, said), 2))
            assert caption.log_prob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"prefix": "a photo"}, r"--prefix photo: is no word of this model"),
        ({"prefix": "a do"}, r"--prefix do: is no word of this model\. Near words: dog"),
        ({"prefix": "a <start>"}, r"--prefix <start>: no caption holds it"),
        ({"prefix": "a <unk>"}, r"--prefix <unk>: no caption holds it\. Leave it out, or add --allow-unknown"),
        ({"prefix": "a <end>"}, r"--prefix <end>: is the token that ends a caption"),
        ({"prefix": "a dog", "ban": ["dog"]}, r"--prefix dog: --ban forbids it\. Leave one out"),
        ({"prefix": "a dog", "max_length": 1}, r"--prefix 'a dog' has 2 words, more than --max-length 1"),
    ],
)
def test_captions_that_cannot_begin_so(tiny_bundle: Path, chosen: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Captioner.load(tiny_bundle, "cpu", **chosen)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dogg", r"--ban dogg: is no word of this model\. Near words: dog"),
        ("Dog", r"--ban Dog: is no word of this model\. Near words: dog"),
        ("zebra", r"--ban zebra: is no word of this model\. The vocabulary is vocabulary\.txt"),
        ("<end>", r"--ban <end>: is the token that ends a caption"),
    ],
)
def test_words_that_cannot_be_banned(tiny_bundle: Path, word: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Captioner.load(tiny_bundle, "cpu", ban=["cat", word])


def test_files_that_cannot_be_read(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    with pytest.raises(OptionError, match=r"none\.txt: cannot be read: No such file"):
        decoding_options(manifest, ban_file=tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(OptionError, match="is not UTF-8 text"):
        decoding_options(manifest, ban_file=tmp_path / "latin.txt")


def test_all_tokens_that_are_no_words_are_banned(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert banned_tokens(bundle, DecodingOptions()) == [0, 1, 3]
    assert banned_tokens(bundle, DecodingOptions(allow_unknown=True, ban=("dog", "<pad>"))) == [0, 1, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_length": -1}, "--min-length -1: must be at least 0"),
        ({"min_length": 21}, "--min-length 21 is more than --max-length 20. Raise the other: --max-length 21"),
        ({"no_repeat_ngram": -1}, "--no-repeat-ngram -1: must be at least 0"),
        ({"ban": "dog"}, "ban='dog': is one text"),
        ({"length_penalty": 2.1}, "--length-penalty 2.1: must be from 0 to 2"),
        ({"length_penalty": 10.1, "search": "im2txt"}, "--length-penalty 10.1: must be from 0 to 10"),
        ({"style": "title"}, "--style title: no such style. Use raw or sentence"),
    ],
)
def test_options_that_cannot_work(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DecodingOptions(**options)


def test_every_option_is_part_of_the_label() -> None:
    assert DecodingOptions().label == "beam3-lp0.7#ec60c769"  # another one stops every run that goes on from outputs
    changed = [
        {"prefix": "a b"},
        {"min_length": 1},
        {"ban": ("a",)},
        {"ban": ("b",)},
        {"allow_unknown": True},
        {"no_repeat_ngram": 2},
        {"style": "sentence"},
    ]
    labels = {DecodingOptions(**one).label for one in [{}, *changed]}
    assert len(labels) == len(changed) + 1
    assert DecodingOptions(ban=("b", "a", "b")).label == DecodingOptions(ban=("a", "b")).label
    assert DecodingOptions(prefix=" a  b ").label == DecodingOptions(prefix="a b").label


def test_one_and_one_point_zero_are_one_setting() -> None:
    for name in ("length_penalty", "temperature", "top_p"):
        search = {} if name == "length_penalty" else {"search": "sample", "beam_size": 1}
        whole, point = DecodingOptions(**search, **{name: 1}), DecodingOptions(**search, **{name: 1.0})  # type: ignore[arg-type]
        assert whole == point
        assert whole.label == point.label


def test_a_label_tells_its_options() -> None:
    assert explain_label(DecodingOptions().label) == {
        "--search": "beam",
        "--beam-size": "3",
        "--num-captions": "1",
        "--max-length": "20",
        "--length-penalty": "0.7",
        "--min-length": "0",
        "--ban": "none",
        "--allow-unknown": "false",
        "--no-repeat-ngram": "0",
        "--prefix": "none",
        "--temperature": "1.0",
        "--top-k": "0",
        "--top-p": "1.0",
        "--seed": "0",
        "--style": "raw",
    }
    options = DecodingOptions(search="im2txt", beam_size=5, max_length=9, ban=("a;b", "c#d", "=e"), prefix="two dogs")
    told = explain_label(options.label)
    assert (told["--search"], told["--beam-size"], told["--max-length"]) == ("im2txt", "5", "9")
    assert told["--ban"] == "=e a;b c#d"
    assert told["--prefix"] == "two dogs"
    assert explain_label("beam4-lp0.8#97622f88")["--beam-size"] == "4"
    assert explain_label("something else") == {}


def test_a_label_stays_short_whatever_is_banned() -> None:
    words = tuple(f"word{number}" for number in range(500))
    one, other = DecodingOptions(ban=words), DecodingOptions(ban=words[:-1])
    assert len(one.label) < 100
    assert explain_label(one.label)["--ban"].startswith("500 words (")
    assert explain_label(other.label)["--ban"].startswith("499 words (")
