"""Options of the decoding: values that cannot work, and the label that an output remembers them by."""

from __future__ import annotations

import pytest

from batchcap.errors import OptionError
from batchcap.options.decoding import DecodingOptions, explain_label


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
