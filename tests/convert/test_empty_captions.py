"""A caption without a word: it is replaced by a better one as any other caption is."""

from __future__ import annotations

from pathlib import Path

import pytest
from conversions import converted, counts, files, journal, record

from batchcap.convert.target_txt import NOT_OURS
from batchcap.options.convert import TargetName


@pytest.mark.parametrize("target", ["txt", "xmp"])
def test_an_empty_caption_is_ours(tmp_path: Path, target: TargetName) -> None:
    records = []
    for text in ("", "a dog", "", "a cat"):
        records.append(record("a.jpg", text))
        source = journal(tmp_path / "j", records)
        tally = converted(source, tmp_path / "out", target)
        assert (tally.written, tally.exit_code) == (1, 0)
        assert converted(source, tmp_path / "out", target).unchanged == 1
    (text,) = files(tmp_path / "out").values()
    assert "a cat" in text


def test_an_empty_file_is_theirs(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").touch()
    source = journal(tmp_path / "j", [record("a.jpg", ""), record("a.jpg", "a dog")])
    assert counts(converted(source, tmp_path / "out", "txt").refused) == {NOT_OURS: 1}
    assert files(tmp_path / "out") == {"a.txt": ""}
