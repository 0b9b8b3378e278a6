"""How much of a journal is known: whole lines alone, and only while they are the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from batchcap.convert import journal_mark
from batchcap.convert.journal_mark import mark

TEXT = b"one\ntwo and more\n\nthree\nfour"


@pytest.mark.parametrize("block", [1, 3, 7, 1 << 20])
@pytest.mark.parametrize("size", range(len(TEXT) + 3))
def test_whole_lines_are_taken(block: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_mark, "_BLOCK", block)
    (tmp_path / "j").write_bytes(TEXT)
    whole = TEXT[: TEXT[:size].rfind(b"\n") + 1]
    found = mark(tmp_path / "j", size)
    assert (found.bytes, found.lines) == (len(whole), whole.count(b"\n"))
    assert found.hash == hashlib.blake2b(whole, digest_size=16).hexdigest()


def test_it_fits_a_journal_that_has_grown(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(TEXT)
    known = mark(path, len(TEXT))
    path.write_bytes(TEXT + b" and five\nsix\n")
    assert known.fits(path, path.stat().st_size)
    for other in (TEXT[:10], TEXT.replace(b"two", b"too"), b"\n" + TEXT, b""):
        path.write_bytes(other + b"\nseven\n" * 9)
        assert not known.fits(path, path.stat().st_size)
