"""``--retry-errors`` alone, with a kind, before an input, by the environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import COUNT, invoke, records
from photos import break_photo
from typer.testing import Result

from batchcap.cli.optional_values import with_values
from batchcap.options.field import fields_of
from batchcap.options.run import RunOptions

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("photos --retry-errors", "photos --retry-errors=all"),
        ("--retry-errors photos -o x", "--retry-errors=all photos -o x"),
        ("--retry-errors truncated photos", "--retry-errors=truncated photos"),
        ("--retry-errors truncated --retry-errors empty x", "--retry-errors=truncated --retry-errors=empty x"),
        ("--retry-errors --retry-errors empty", "--retry-errors=all --retry-errors=empty"),
        ("--retry-errors=empty truncated", "--retry-errors=empty truncated"),
        ("--retry-errors ./truncated", "--retry-errors=all ./truncated"),
        ("--retry-errors -- truncated --retry-errors", "--retry-errors=all -- truncated --retry-errors"),
        ("photos", "photos"),
    ],
)
def test_a_word_is_a_value_only_if_it_is_one_of_the_choices(given: str, read: str) -> None:
    assert with_values(given.split(), fields_of(RunOptions)) == read.split()


@pytest.fixture
def broken(photos: Path, tmp_path: Path, tiny_bundle: Path) -> Callable[..., Result]:
    """Runs over photos of which one is truncated and one is empty; every run is told what to try again."""
    break_photo(photos / "0001.jpg")
    (photos / "0002.jpg").write_bytes(b"")

    def go(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
        return invoke(
            "run", *arguments, "-o", tmp_path / "out.jsonl", "--model", tiny_bundle, "--device", "cpu", env=env
        )

    assert go(photos).exit_code == 3
    assert len(records(tmp_path / "out.jsonl")) == COUNT + 1
    return go


@pytest.mark.parametrize(
    ("words", "tried"),
    [
        ((), 0),
        (("--retry-errors",), 2),
        (("--retry-errors", "all"), 2),
        (("--retry-errors", "truncated"), 1),
        (("--retry-errors", "corrupt"), 0),
        (("--retry-errors", "truncated", "--retry-errors", "empty"), 2),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_what_is_tried_again(
    broken: Callable[..., Result], photos: Path, words: tuple[str, ...], tried: int, before: bool
) -> None:
    done = broken(*words, photos) if before else broken(photos, *words)
    assert done.exit_code == 3
    _check(done, tried)


@pytest.mark.parametrize(
    ("value", "tried"),
    [("1", 2), ("true", 2), ("all", 2), ("truncated", 1), ("truncated empty", 2), ("0", 0), ("false", 0), ("", 0)],
)
def test_the_environment_chooses_too(broken: Callable[..., Result], photos: Path, value: str, tried: int) -> None:
    _check(broken(photos, env={"BATCHCAP_RETRY_ERRORS": value}), tried)


def _check(done: Result, tried: int) -> None:
    assert done.exit_code == 3
    assert done.stderr.count("decode, ") == tried
    assert ("Nothing new" in done.stderr) == (tried == 0)


def test_no_such_kind(broken: Callable[..., Result], photos: Path) -> None:
    done = broken(photos, "--retry-errors=shaken")
    assert done.exit_code == 2
    assert "--retry-errors shaken: no such choice. Use one of all, truncated, damaged," in " ".join(done.stderr.split())
