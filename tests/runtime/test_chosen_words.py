"""Words that a person chose for captions or against them: banned, forced as the first, unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundles import build_bundle, random_tables

from batchcap.bundle.bundle import open_bundle
from batchcap.bundle.token_lookup import banned_tokens
from batchcap.errors import OptionError
from batchcap.options.decoding import DecodingOptions
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options

IMAGES = [np.full((8, 8, 3), colour, np.uint8) for colour in [(250, 10, 10), (10, 250, 10), (90, 90, 90)]]


def captions(folder: Path, **chosen: object) -> list[str]:
    found = Captioner.load(folder, "cpu", **chosen).caption(IMAGES)
    return [caption.caption for image in found for caption in image.captions]


def test_banned_words_are_not_said(tiny_bundle: Path, tmp_path: Path) -> None:
    said = set(" ".join(captions(tiny_bundle)).split())
    word, other = sorted(said)[:2]
    (tmp_path / "bans.txt").write_bytes(f"\ufeff {other}\r\n\n".encode())
    assert not {word, other} & set(
        " ".join(captions(tiny_bundle, ban=[word], ban_file=tmp_path / "bans.txt", num_captions=3)).split()
    )


def test_unknown_words_are_said_only_where_allowed(tmp_path: Path) -> None:
    tables = random_tables()
    tables.logits[:, 3] += 20
    folder = build_bundle(tmp_path / "b", tables)
    assert all("<unk>" not in caption for caption in captions(folder))
    assert all("<unk>" in caption for caption in captions(folder, allow_unknown=True, min_length=1))
    # It is a word like others, and can be banned like them.
    assert all("<unk>" not in caption for caption in captions(folder, allow_unknown=True, ban=["<unk>"]))


def test_captions_begin_as_told(tiny_bundle: Path) -> None:
    found = Captioner.load(tiny_bundle, "cpu", prefix="  blue   dog ", num_captions=2, max_length=8).caption(IMAGES)
    tables, ids = random_tables(), open_bundle(tiny_bundle).vocabulary.id_of
    for array, image in zip(IMAGES, found, strict=True):
        for caption in image.captions:
            said = caption.caption.split()
            assert said[:2] == ["blue", "dog"]
            expected = tables.log_prob(array[0, 0], (*map(ids, said), 2))
            assert caption.log_prob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"prefix": "a photo"}, r"--prefix photo: is no word of this model"),
        ({"prefix": "a do"}, r"--prefix do: is no word of this model\. Near words: dog"),
        ({"prefix": "a <start>"}, r"--prefix <start>: no caption holds it"),
        ({"prefix": "a <unk>"}, r"--prefix <unk>: no caption holds it\. Leave it out, or add --allow-unknown"),
        ({"prefix": "a <end>"}, r"--prefix <end>: is the token that ends a caption"),
        ({"prefix": "a dog", "ban": ["dog"]}, r"--prefix dog: --ban forbids it\. Leave one out"),
        ({"prefix": "a dog", "max_length": 1}, r"--prefix 'a dog' has 2 words, more than --max-length 1"),
    ],
)
def test_captions_that_cannot_begin_so(tiny_bundle: Path, chosen: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Captioner.load(tiny_bundle, "cpu", **chosen)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dogg", r"--ban dogg: is no word of this model\. Near words: dog"),
        ("Dog", r"--ban Dog: is no word of this model\. Near words: dog"),
        ("zebra", r"--ban zebra: is no word of this model\. The vocabulary is vocabulary\.txt"),
        ("<end>", r"--ban <end>: is the token that ends a caption"),
    ],
)
def test_words_that_cannot_be_banned(tiny_bundle: Path, word: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Captioner.load(tiny_bundle, "cpu", ban=["cat", word])


def test_files_that_cannot_be_read(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    with pytest.raises(OptionError, match=r"none\.txt: cannot be read: No such file"):
        decoding_options(manifest, ban_file=tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(OptionError, match="is not UTF-8 text"):
        decoding_options(manifest, ban_file=tmp_path / "latin.txt")


def test_all_tokens_that_are_no_words_are_banned(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert banned_tokens(bundle, DecodingOptions()) == [0, 1, 3]
    assert banned_tokens(bundle, DecodingOptions(allow_unknown=True, ban=("dog", "<pad>"))) == [0, 1, 5]
