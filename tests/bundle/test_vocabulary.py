"""Ids and words, and the file they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import BundleError

words = st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, unique=True)


@given(words)
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "vocabulary.txt"
    Vocabulary(tuple(words)).save(path)
    loaded = Vocabulary.load(path)
    assert loaded == Vocabulary(tuple(words))
    assert [loaded.id_of(word) for word in words] == list(range(len(loaded)))
    assert loaded.detokenize(range(len(words))) == " ".join(words)


def test_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes("<pad>\nnaïve\u2028word\nfin".encode())
    assert Vocabulary.load(tmp_path / "v.txt").words == ("<pad>", "naïve\u2028word", "fin")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "The word of id 0 is ''"),
        (b"a\n\nb\n", "The word of id 1 is ''"),
        (b"a\r\nb\r\n", r"The word of id 0 is 'a\\r'"),
        (b"a\nred \x1b[31m\n", r"The word of id 1 is 'red \\x1b\[31m': a word is one line of text, without control"),
        ("a\n\x9b2J\n".encode(), "The word of id 1 is "),
        (b"a\n\x00\n", "The word of id 1 is "),
        (b"a\nb\na\n", "The word 'a' stands twice, as id 0 and id 2"),
        (b"a\n\xff\n", r"is not UTF-8 text \(byte 2\)"),
    ],
)
def test_a_file_that_is_no_vocabulary(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"vocabulary.txt: {problem}"):
        Vocabulary.load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"vocabulary\.txt: cannot be read: No such file"):
        Vocabulary.load(tmp_path / "vocabulary.txt")


def test_no_word_at_all() -> None:
    with pytest.raises(BundleError, match="no word"):
        Vocabulary(())


def test_an_unknown_word() -> None:
    with pytest.raises(KeyError):
        Vocabulary(("a",)).id_of("b")
