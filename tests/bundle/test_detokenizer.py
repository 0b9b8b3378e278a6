"""Tokens to text: pieces of words, spaces, contractions, and sentences."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcap.bundle.detokenizer import Detokenizer, Subwords, Text, has_pieces, sentence

# Letters, letters that are no ASCII, and what the marks are made of, alone.
letters = st.text("abé狗n'#@w/<>", min_size=1, max_size=5).filter(
    lambda word: not any(mark in word for mark in ("##", "@@", "</w>")) and word[0] != "#" and word[-1] != "@"
)
sentences = st.lists(letters, max_size=6)


def write(tokens: list[str], text: Text, whole: str | None = None) -> str:
    """The text of ``tokens``, over a vocabulary of just these; ``whole`` is one that is no piece."""
    vocabulary = list(dict.fromkeys(tokens))
    marked = () if whole is None else (vocabulary.index(whole),)
    return Detokenizer(vocabulary, text, marked)([vocabulary.index(token) for token in tokens])


@given(sentences)
def test_without_data_words_have_a_blank_between(words: list[str]) -> None:
    assert write(words, Text()) == " ".join(words)


def pieces_of(subwords: Subwords, word: list[str]) -> list[str]:
    last = len(word) - 1
    marked = {
        "wordpiece": lambda i, piece: piece if i == 0 else f"##{piece}",
        "sentencepiece": lambda i, piece: f"▁{piece}" if i == 0 else piece,
        "bpe-@@": lambda i, piece: piece if i == last else f"{piece}@@",
        "bpe-</w>": lambda i, piece: f"{piece}</w>" if i == last else piece,
    }[subwords]
    return [marked(i, piece) for i, piece in enumerate(word)]


SCHEMES: list[Subwords] = ["wordpiece", "sentencepiece", "bpe-@@", "bpe-</w>"]


@pytest.mark.parametrize("subwords", SCHEMES)
@given(split=st.lists(st.lists(letters, min_size=1, max_size=3), max_size=5), separator=st.sampled_from([" ", "", "_"]))
def test_pieces_become_the_words_they_are_of(subwords: Subwords, split: list[list[str]], separator: str) -> None:
    tokens = [piece for word in split for piece in pieces_of(subwords, word)]
    expected = separator.join("".join(word) for word in split)
    assert write(tokens, Text(subwords=subwords, separator=separator)) == expected


@pytest.mark.parametrize(
    ("subwords", "tokens", "text"),
    [
        # A caption that begins or ends inside a word, and marks of nothing.
        ("wordpiece", "##board on ##", "board on"),
        ("wordpiece", "##", ""),
        ("wordpiece", "# ##1 snow ## ##board", "#1 snowboard"),
        ("wordpiece", "a## b", "a## b"),
        ("sentencepiece", "board ▁on ▁", "board on"),
        ("sentencepiece", "▁ ▁ ▁", ""),
        ("sentencepiece", "▁ snow board ▁of▁the ▁ day", "snowboard of the day"),
        ("bpe-@@", "snow@@ board on@@", "snowboard on"),
        ("bpe-@@", "@@ a @@ b@@", "a b"),
        ("bpe-@@", "@@", ""),
        ("bpe-@@", "@@a b", "@@a b"),
        ("bpe-</w>", "snow board</w> on", "snowboard on"),
        ("bpe-</w>", "</w> a </w> </w> b</w>", "a b"),
        ("bpe-</w>", "</w>", ""),
        # The unknown word bears no mark and is no piece.
        ("wordpiece", "a <unk> ##s", "a <unk> s"),
        ("sentencepiece", "▁a <unk> ▁dog s", "a <unk> dogs"),
        ("sentencepiece", "<unk> s <unk> <unk>", "<unk> s <unk> <unk>"),
        ("bpe-@@", "a@@ <unk> dog", "a <unk> dog"),
        ("bpe-</w>", "a <unk> dog</w>", "a <unk> dog"),
    ],
)
def test_odd_pieces(subwords: Subwords, tokens: str, text: str) -> None:
    found = tokens.split(" ")
    assert write(found, Text(subwords=subwords), "<unk>" if "<unk>" in found else None) == text


def test_a_scheme_is_seen_by_its_mark() -> None:
    for subwords in SCHEMES:
        others = [piece for other in SCHEMES if other != subwords for piece in pieces_of(other, ["a", "b"])]
        assert not has_pieces(others, subwords)
        assert has_pieces([*others, *pieces_of(subwords, ["a", "b"])], subwords)


@given(
    st.lists(st.sampled_from([",", "(", "a", "狗", "''"]), max_size=9),
    st.sets(st.sampled_from([",", "''", "a"])),
    st.sets(st.sampled_from(["(", "''", "狗"])),
)
def test_spaces_stand_where_neither_side_forbids_them(words: list[str], before: set[str], after: set[str]) -> None:
    found = write(words, Text(no_space_before=tuple(before), no_space_after=tuple(after)))
    spaces = [left not in after and right not in before for left, right in pairwise(words)]
    expected = "".join(" " * space + word for word, space in zip(words, [False, *spaces], strict=False))
    assert found == expected


TEXT = Text(
    no_space_before=(",", ".", "'s", "n't", "''"),
    no_space_after=("(", "``", "$"),
    contractions={"do n't": "don't", "do n't you": "dontcha", "gon na": "gonna", "``": "“", "''": "”", "i": "I"},
)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", ""),
        (",", ","),
        ("``", "“"),
        (", . '' $ (", ",.” $("),
        ("'s a dog", "'s a dog"),
        ("a dog 's ball , red .", "a dog's ball, red."),
        ("i do n't go", "I don't go"),
        # The longest run, from the left, and no part of what was written already.
        ("do n't you see", "dontcha see"),
        ("do n't do n't you", "don't dontcha"),
        ("gon gon na na", "gon gonna na"),
        ("gon", "gon"),
        ("do n't n't", "don'tn't"),
        # Spaces are those of the words that were said.
        ("a `` dog '' runs", "a “dog” runs"),
        ("$ i ( gon na", "$I (gonna"),
        ("Do n't", "Don't"),
    ],
)
def test_spaces_and_contractions(words: str, text: str) -> None:
    assert write(words.split(), TEXT) == text


def test_contractions_see_whole_words() -> None:
    text = Text(
        subwords="wordpiece", contractions={"snow board": "snowboard", "dogs run": "DR"}, no_space_before=("!!",)
    )
    assert write(["a", "dog", "##s", "run", "!", "##!"], text) == "a DR!!"
    assert write(["snow", "board", "##s"], text) == "snow boards"


def test_words_that_hold_blanks_stay_whole() -> None:
    assert write(["new york", "city"], Text(separator="·")) == "new york·city"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("", ""),
        (" ", " "),
        ("a dog runs", "A dog runs."),
        ("a", "A."),
        ("A dog", "A dog."),
        ("a dog .", "A dog ."),
        ("what is this ?", "What is this ?"),
        ("look !", "Look !"),
        ("and so on…", "And so on…"),
        ("and so on...", "And so on..."),
        ("iPod on a table", "iPod on a table."),
        ("a man with an iPod", "A man with an iPod."),
        ("2 dogs", "2 dogs."),
        ("<unk> dog", "<unk> dog."),
        ("élan", "Élan."),
        ("e\u0301lan", "E\u0301lan."),
        ("ǆip na cesti", "ǅip na cesti."),
        ("собака бежит", "Собака бежит."),
        ("一只狗。", "一只狗。"),
        ('"a dog" runs', '"A dog" runs.'),
        ("¿un perro?", "¿Un perro?"),
        ('a sign says "stop!"', 'A sign says "stop!"'),
        ("(a dog.)", "(A dog.)"),
        (".", "."),
        ("'tis a dog", "'Tis a dog."),
    ],
)
def test_sentences(raw: str, said: str) -> None:
    assert sentence(raw) == said


@given(st.text())
def test_a_sentence_is_one_already(raw: str) -> None:
    said = sentence(raw)
    assert sentence(said) == said
    assert bool(said.strip()) == bool(raw.strip())
    # But for case and the full stop nothing changes.
    assert said.casefold().removesuffix(".") == raw.casefold().removesuffix(".")
