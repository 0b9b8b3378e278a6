"""Captions and splits in Flickr8k's form, the words in them, and what is said when they do not fit together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchcap.errors import ExportError

pytest.importorskip("batchcap_export.data.words", reason="the export extra is not installed")

from batchcap_export.data.caption_files import read_captions
from batchcap_export.data.splits import read_split
from batchcap_export.data.words import build_vocabulary, encode_captions, standardize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A black dog , and a SPOTTED dog .", ["a", "black", "dog", "and", "a", "spotted", "dog"]),
        ("a man 's hat", ["a", "man", "'s", "hat"]),
        ("the 'big' t-shirt (red)!", ["the", "'big", "t", "shirt", "red"]),
        ("a_b \t c\n", ["a", "b", "c"]),
        ("' ''", []),
        ("Ein Mädchen läuft", ["ein", "mädchen", "läuft"]),
    ],
)
def test_standardize(text: str, words: list[str]) -> None:
    assert standardize(text) == words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("b.webp", "a.webp", "c.jpg"):
        (tmp_path / "images" / name).write_bytes(b"")
    (tmp_path / "captions.txt").write_text(
        "a.jpg#0\tA dog .\nb.jpg#0\tA cat\na.jpg#1\ttwo dogs run\n", encoding="utf-8"
    )
    (tmp_path / "train.txt").write_text("b.jpg\na.jpg\n", encoding="utf-8")
    return tmp_path


def test_a_split_keeps_its_order_and_finds_other_suffixes(folder: Path) -> None:
    captions = read_captions(folder / "captions.txt")
    split = read_split(folder / "images", captions, folder / "train.txt")
    assert [file.name for file in split.files] == ["b.webp", "a.webp"]
    assert split.references == (("A cat",), ("A dog .", "two dogs run"))


def test_errors_name_file_and_cause(folder: Path) -> None:
    captions = read_captions(folder / "captions.txt")
    (folder / "more.txt").write_text("a.jpg\nc.jpg\n", encoding="utf-8")
    with pytest.raises(ExportError, match=r"more\.txt: no caption for 1 of 2 names, such as c\.jpg"):
        read_split(folder / "images", captions, folder / "more.txt")
    (folder / "more.txt").write_text("z.jpg\n", encoding="utf-8")
    with pytest.raises(ExportError, match=r"no image in .*images for 1 of 1 names, such as z\.jpg"):
        read_split(folder / "images", captions, folder / "more.txt")
    (folder / "bad.txt").write_text("a.jpg#0\tok\nno tab here\n", encoding="utf-8")
    with pytest.raises(ExportError, match=r"bad\.txt, line 2"):
        read_captions(folder / "bad.txt")
    with pytest.raises(ExportError, match=r"absent\.txt: no such file"):
        read_captions(folder / "absent.txt")


def test_vocabulary_and_sequences(folder: Path) -> None:
    captions = read_captions(folder / "captions.txt")
    split = read_split(folder / "images", captions, folder / "train.txt")
    vocabulary = build_vocabulary(split.references, min_count=1)
    assert vocabulary.words == ("<pad>", "<start>", "<end>", "<unk>", "a", "cat", "dog", "dogs", "run", "two")
    frequent = build_vocabulary(split.references, min_count=2)
    assert frequent.words[4:] == ("a",)
    sequences = encode_captions(split, frequent, max_length=2)
    assert sequences.image.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(sequences.tokens, [[1, 4, 3, 2], [1, 4, 3, 2], [1, 3, 3, 2]])
    with pytest.raises(ExportError, match="--min-count"):
        build_vocabulary(split.references, min_count=9)
