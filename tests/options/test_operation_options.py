"""How a run is operated: what is checked before it begins."""

from __future__ import annotations

import math

import pytest

from batchcap.errors import OptionError
from batchcap.options.operation import OperationOptions, Shard


def test_a_shard_is_its_number_and_their_count() -> None:
    assert OperationOptions(shard="2/4").part == Shard(2, 4)
    assert OperationOptions(shard="1/1").part == Shard(1, 1)
    assert OperationOptions().part is None


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("0/4", "add 1 to it"),
        ("5/4", "from 1/4 to 4/4"),
        ("1/0", "write 2/4"),
        ("-1/4", "must be I/N"),
        ("2", "must be I/N"),
        ("1/4/2", "must be I/N"),
        ("1 / 4", "must be I/N"),
        ("a/b", "must be I/N"),
        ("1/٤", "must be I/N"),
        ("1/4000000000", "must be I/N"),
        ("", "must be I/N"),
    ],
)
def test_a_shard_that_is_none(text: str, thing: str) -> None:
    with pytest.raises(OptionError, match="--shard") as caught:
        OperationOptions(shard=text)
    assert thing in str(caught.value)


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_nobody_waits_less_than_no_time(seconds: float) -> None:
    with pytest.raises(OptionError, match=r"--wait .*: must be at least 0"):
        OperationOptions(wait=seconds)
