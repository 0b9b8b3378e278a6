"""Options of a wrong type end where they are made, by name; numbers of NumPy are numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchcap.errors import OptionError
from batchcap.options.decoding import DecodingOptions
from batchcap.options.run import RunOptions
from batchcap.run import pipeline
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device


@pytest.fixture(scope="module")
def captioner(tiny_bundle: Path) -> Captioner:
    return Captioner.load(tiny_bundle, "cpu", threads=1)


WHOLE = ("4", "four", 4.0, 2.5, True, None, [4], b"4", np.float64(4), np.array([4]), 10**5000)
WRONG = [
    *(("beam_size", value) for value in WHOLE),
    *((name, 2.0) for name in ("num_captions", "max_length", "min_length", "no_repeat_ngram", "top_k", "seed")),
    *((name, value) for name in ("length_penalty", "temperature", "top_p") for value in ("1", True, None, 10**400)),
    ("max_length", 5.5),
    *(("allow_unknown", value) for value in ("no", 0, None)),
    *(("ban", value) for value in ([1], [b"dog"], b"dog", "dog", 3, None, {"dog": 1}, [["dog"]])),
    *(("prefix", value) for value in (["a"], b"a", None, 1)),
    *(("search", value) for value in (1, None, ["beam"], np.array(["beam", "beam"]))),
    *(("style", value) for value in (1, None, ["raw"])),
]


def named(value: object) -> str:
    return "huge" if isinstance(value, int) and value == WHOLE[-1] else repr(value)


def told(name: str, make: Callable[[], object]) -> str:
    """What is said of a wrong option: its name first."""
    with pytest.raises(OptionError) as caught:
        make()
    said = str(caught.value)
    assert said.startswith(name), said
    return said


@pytest.mark.parametrize(("name", "value"), WRONG, ids=named)
def test_decoding_options_of_a_wrong_type(name: str, value: object, captioner: Captioner) -> None:
    said = told(name, lambda: DecodingOptions(**{name: value}))
    assert "must be" in said or "is one text" in said
    if value is not None:  # which is the bundle's own
        assert told(name, lambda: decoding_options(captioner.bundle.manifest, **{name: value})) == said  # type: ignore[misc]


def test_the_message_has_the_value_and_what_is_valid() -> None:
    assert told("beam_size", lambda: DecodingOptions(beam_size="4")) == (  # type: ignore[arg-type]
        "beam_size='4': must be a whole number from 1 to 256."
    )
    assert told("top_k", lambda: DecodingOptions(top_k=2.5)) == "top_k=2.5: must be a whole number."  # type: ignore[arg-type]
    assert told("search", lambda: DecodingOptions(search=1)) == (  # type: ignore[arg-type]
        "search=1: must be one of 'beam', 'greedy', 'sample', 'im2txt'."
    )
    assert told("ban", lambda: DecodingOptions(ban=("cat", 1))) == (  # type: ignore[arg-type]
        "ban=('cat', 1): must be a list of texts, and 1 is none."
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("batch_size", "workers") for value in WHOLE),
        *(("limit", value) for value in (2.0, True, "3")),
        *((name, value) for name in ("overwrite", "relocate", "allow_empty") for value in ("no", 0, None)),
        *(("model", value) for value in (None, b"a", "a\0b", Path("a\0b"), 3)),
        *((name, value) for name in ("device", "precision", "on_mismatch", "format") for value in (None, 1, b"cpu")),
        *((name, value) for name in ("output", "root") for value in (1, b"out.jsonl", "a\0b", ["out.jsonl"])),
        *(("inputs", value) for value in ("photos", b"photos", None, [1], [None], Path("photos"))),
    ],
    ids=named,
)
def test_run_options_of_a_wrong_type(name: str, value: object) -> None:
    given: dict[str, Any] = {"inputs": (Path("photos"),), "output": None, name: value}
    told(name, lambda: RunOptions(**given))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("batch_size", value) for value in WHOLE),
        *(("model", value) for value in (None, b"a", "a\0b", 3)),
        *((name, value) for name in ("device", "precision") for value in (None, 1, b"cpu")),
        *(("ban_file", value) for value in (1, b"words.txt", "a\0b", [])),
        ("nonsense", 1),
        ("nonsense", None),
        ("beamsize", 3),
    ],
    ids=named,
)
def test_a_captioner_that_cannot_be_loaded(name: str, value: object, tiny_bundle: Path) -> None:
    given: dict[str, Any] = {"model": tiny_bundle, "device": "cpu", name: value}
    told(name, lambda: Captioner.load(**given))


def test_an_option_that_is_not_there_is_told_with_near_ones(captioner: Captioner) -> None:
    said = told("beamsize", lambda: decoding_options(captioner.bundle.manifest, beamsize=3))  # type: ignore[call-arg]
    assert said.startswith("beamsize=3: no such option. Near ones: beam_size")
    options = RunOptions(inputs=(Path(__file__),), output=None)
    told("nonsense", lambda: pipeline.run(options, {"nonsense": 1}))


def test_the_constructor_takes_a_batch_size_of_numpy(captioner: Captioner) -> None:
    device = choose_device("cpu")
    made = Captioner(captioner.bundle, captioner.decoding, device, np.int64(3), threads=np.int32(1))  # type: ignore[arg-type]
    assert type(made.batch_size) is int
    told("batch_size", lambda: Captioner(captioner.bundle, captioner.decoding, device, 2.5))  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [None, 5, b"a.jpg", np.array(5)])
def test_what_holds_no_images(images: Any, captioner: Captioner) -> None:
    with pytest.raises(OptionError, match=r"^(images=|One image).*Give a list"):
        list(captioner.caption(images))


@pytest.mark.parametrize("name", ["attention", "accept_damaged"])
def test_a_switch_is_true_or_false(name: str, captioner: Captioner) -> None:
    told(f"{name}='no'", lambda: list(captioner.caption([], **{name: "no"})))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("python", "numpy"),
    [
        ({"beam_size": 4}, {"beam_size": np.int64(4)}),
        ({"max_length": 12, "no_repeat_ngram": 2}, {"max_length": np.uint8(12), "no_repeat_ngram": np.array(2)}),
        ({"length_penalty": 0.5}, {"length_penalty": np.float32(0.5)}),
        ({"length_penalty": 1.0}, {"length_penalty": 1}),
        ({"allow_unknown": True}, {"allow_unknown": np.True_}),
        ({"ban": ("cat", "dog"), "prefix": "two"}, {"ban": np.array(["dog", "cat"]), "prefix": np.str_("two")}),
        ({"ban": ("cat", "dog")}, {"ban": (word for word in ("dog", "cat"))}),
    ],
)
def test_numbers_of_numpy_are_numbers(python: dict[str, Any], numpy: dict[str, Any], captioner: Captioner) -> None:
    wanted, found = DecodingOptions(**python), DecodingOptions(**numpy)
    assert found == wanted
    assert found.label == wanted.label
    assert found.label == DecodingOptions(**python).label
    assert {type(getattr(found, name)) for name in numpy} == {type(getattr(wanted, name)) for name in python}
    more = {"ban": ("dog",)} if "ban" in numpy else numpy
    assert decoding_options(captioner.bundle.manifest, **more)


def test_labels_are_those_of_before() -> None:
    """Written down before types were checked: an output of then goes on now."""
    labels = {
        "beam3-lp0.7#ec60c769": DecodingOptions(),
        "beam4-lp1#eb5e0b4f": DecodingOptions(beam_size=4, length_penalty=1),
        "sample-lp0.7;temperature=2.0;top_k=5;seed=7#033ea36c": DecodingOptions(
            search="sample", beam_size=1, seed=7, top_k=5, temperature=2
        ),
        "beam3-lp0.7;num_captions=2;max_length=16;min_length=3;ban=cat+dog;allow_unknown=true;no_repeat_ngram=2;"
        "prefix=two+dogs;style=sentence#dc92cbd5": DecodingOptions(
            ban=("dog", "cat"),
            prefix="two  dogs",
            allow_unknown=True,
            no_repeat_ngram=2,
            min_length=3,
            num_captions=2,
            style="sentence",
            max_length=16,
        ),
        "im2txt3-lp3#2f099322": DecodingOptions(search="im2txt", length_penalty=3),
    }
    assert {options.label: options for options in labels.values()} == labels


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"on_mismatch": "nonsense"}, "--on-mismatch nonsense: no such choice. Use one of stop, recaption, keep."),
        ({"format": "xml"}, "--format xml: no such format. Use jsonl or csv."),
        ({"precision": "fp8"}, "--precision fp8: no such precision. Use one of auto, fp32, fp16, int8."),
    ],
)
def test_a_choice_that_is_not_there(given: dict[str, Any], said: str) -> None:
    assert told("--", lambda: RunOptions(inputs=(Path("photos"),), output=None, **given)) == said


def test_run_options_take_texts_as_paths() -> None:
    made = RunOptions(inputs=["photos"], output="out.jsonl", model=Path("m"), batch_size=np.int64(7))  # type: ignore[arg-type]
    assert (made.inputs, made.output, made.batch_size) == ((Path("photos"),), Path("out.jsonl"), 7)
    assert made == RunOptions(inputs=(Path("photos"),), output=Path("out.jsonl"), model=Path("m"), batch_size=7)
