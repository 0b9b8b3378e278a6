"""An option stands once: what is made of its annotated field."""

from __future__ import annotations

import types
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from batchcap.errors import OptionError
from batchcap.options import table
from batchcap.options.bench import BenchOptions
from batchcap.options.decoding import Decoding, DecodingOptions, chosen_fields
from batchcap.options.field import Option, OptionField, field_of, fields_of
from batchcap.options.run import RunOptions


@pytest.mark.parametrize("options", [RunOptions, DecodingOptions, BenchOptions])
def test_every_field_is_an_option(options: type) -> None:
    assert [field.field for field in fields_of(options)] == [field.name for field in fields(options)]


def without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    return Union[tuple(each for each in get_args(kind) if each is not type(None))]  # noqa: UP007 - of a computed tuple


def test_what_is_chosen_has_the_fields_of_the_options_in_their_types() -> None:
    """`Captioner.load(**chosen)` is typed by hand, for type checkers: this keeps it true."""
    chosen, options = get_type_hints(Decoding), get_type_hints(DecodingOptions)
    assert [name for name in chosen if name != "ban_file"] == list(options)
    for name, kind in options.items():
        assert type(None) in get_args(chosen[name])
        wanted = str if name == "ban" else kind
        assert (get_args(without_none(chosen[name]))[0] if name == "ban" else without_none(chosen[name])) == wanted
    assert [field.field for field in chosen_fields()] == list(chosen)


@pytest.mark.parametrize(
    ("option", "inside", "outside", "said"),
    [
        (Option("", low=1), (1, 2**70), (0, -1), "must be at least 1."),
        (Option("", high=1), (-5, 1), (1.5,), "must be at most 1."),
        (Option("", low=0.01, high=100), (0.01, 100), (0, 101, float("nan")), "must be from 0.01 to 100."),
        (Option("", above=0, high=1), (0.001, 1), (0, 1.1), "must be above 0 and at most 1."),
        (Option("", low=0, valid="a lot"), (0,), (-1,), "must be a lot."),
        (Option(""), (-1, "x"), (), ""),
    ],
)
def test_a_range_is_checked_and_said(option: Option, inside: Any, outside: Any, said: str) -> None:
    field = OptionField("top_p", float, 1.0, option)
    for value in (*inside, None):
        field.check_range(value)
    for value in outside:
        with pytest.raises(OptionError) as caught:
            field.check_range(value)
        assert str(caught.value) == f"--top-p {value}: {said}"


def test_names_on_the_command_line_and_in_the_environment() -> None:
    batch_size, inputs, images = (
        field_of(RunOptions, "batch_size"),
        field_of(RunOptions, "inputs"),
        field_of(BenchOptions, "images"),
    )
    assert (batch_size.flag, batch_size.variable) == ("--batch-size", "BATCHCAP_BATCH_SIZE")
    assert inputs.flag == "INPUT"
    assert images.variable == ""
    assert field_of(BenchOptions, "batch_size").option is batch_size.option


def test_the_table_of_options() -> None:
    rows = {row.option: row for row in table.options_table(RunOptions)}
    assert rows["-o, --output"].default == "required"
    assert rows["--workers"] == (
        "--workers",
        "Threads that read and decode images; 0: one for each core.",
        "from 0 (automatic) to 256",
        "0",
        "BATCHCAP_WORKERS",
    )
    assert rows["--format"][2:4] == ("jsonl, csv", "by the file's ending")
    assert rows["--overwrite"].default == ""
    assert table.row(OptionField("score", bool, True, Option("", negative=True))).default == "on"
    chosen = {row.option: row for row in table.options_table(chosen_fields())}
    assert chosen["--search"].default == "the model's"
    assert chosen["--temperature"].default == "1"
    assert table.markdown([rows["-o, --output"], chosen["--ban-file"]]).splitlines()[2:] == [
        "| `-o`, `--output` | A .jsonl or .csv file, or - for JSON lines on standard output. |  | required |",
        "| `--ban-file` | A file of words to ban, one a line. |  |  |",
    ]
