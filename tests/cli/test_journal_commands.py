"""The commands that look at outputs and change them: status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import COUNT, invoke, on_a_terminal
from photos import break_photo

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def journal(photos: Path, tmp_path: Path, tiny_bundle: Path) -> Path:
    """An output of all photos; one of them is broken."""
    out = tmp_path / "captions.jsonl"
    break_photo(next(photos.rglob("*.jpg")))
    assert invoke("run", photos, "-o", out, "--model", tiny_bundle, "--device", "cpu", "-q").exit_code == 3
    return out


def test_status_says_what_an_output_holds(journal: Path, photos: Path) -> None:
    told = invoke("status", journal)
    assert told.exit_code == 0
    for words in (
        f"captions      {COUNT - 1}",
        "failures      1",
        "decode",
        f"root          {photos}",
        "no run holds it",
    ):
        assert words in told.stdout
    status = json.loads(invoke("status", journal, "--json").stdout)
    assert (status["images"], status["captions"], status["in_use"]) == (COUNT, COUNT - 1, False)
    assert status["failure_kinds"][0]["examples"][0]["path"].endswith(".jpg")


@pytest.mark.parametrize("columns", [80, 200])
def test_status_fits_on_a_terminal(journal: Path, columns: int) -> None:
    code, seen = on_a_terminal("status", journal, stdout=True, columns=columns, color=False)
    assert code == 0
    assert "preprocess, decoding" in seen
    assert all(len(line) <= columns for line in seen.splitlines())


def test_status_of_what_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a list\n")
    missing, foreign = invoke("status", tmp_path / "nowhere.jsonl"), invoke("status", tmp_path / "notes.txt")
    assert (missing.exit_code, foreign.exit_code) == (1, 1)
    assert "There is no journal" in missing.stderr
    assert "is not a JSONL output of batchcap: line 1" in foreign.stderr
    assert invoke("status").exit_code == 2
