"""Words that a person chose, as tokens of a model; an error about an unknown word names similar ones."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.manifest import Tokens
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import OptionError
from batchcap.options.decoding import DecodingOptions


def banned_tokens(bundle: Bundle, decoding: DecodingOptions) -> list[int]:
    """Every token that no caption may hold: those that are no words, and the words of ``--ban``.

    The Show and Tell code forbids none: with ``--allow-unknown`` its search may say the start token again, as there.

    Raises:
        OptionError: a banned word is not in the vocabulary, or is the one that ends captions.
    """
    tokens = bundle.manifest.tokens
    banned = {_word(bundle.vocabulary, tokens, word, "--ban") for word in decoding.ban}
    if tokens.padding is not None:
        banned.add(tokens.padding)
    if decoding.search != "im2txt" or not decoding.allow_unknown:
        banned.add(tokens.start)
    if tokens.unknown is not None and not decoding.allow_unknown:
        banned.add(tokens.unknown)
    return sorted(banned - {tokens.end})


def prefix_tokens(bundle: Bundle, decoding: DecodingOptions) -> list[int]:
    """The first tokens of every caption: the words of ``--prefix``.

    Raises:
        OptionError: a word is not in the vocabulary, or no caption may hold it.
    """
    words = decoding.prefix.split()
    prefix = [_word(bundle.vocabulary, bundle.manifest.tokens, word, "--prefix") for word in words]
    banned = set(banned_tokens(bundle, decoding))
    for word, token in zip(words, prefix, strict=True):
        if token in banned:
            if word in decoding.ban:
                raise OptionError(f"--prefix {word}: --ban forbids it.", "Leave one out.")
            unknown = token == bundle.manifest.tokens.unknown
            fix = "Leave it out, or add --allow-unknown." if unknown else "Leave it out."
            raise OptionError(f"--prefix {word}: no caption holds it.", fix)
    return prefix


def read_words(path: Path) -> tuple[str, ...]:
    """The words of a file for ``--ban-file``: UTF-8, one a line; blank lines and spaces around a word do not count.

    Raises:
        OptionError: it cannot be read, or is not UTF-8.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise OptionError(f"--ban-file {path}: cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise OptionError(f"--ban-file {path}: is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from None
    return tuple(word for line in lines if (word := line.strip()))


def _word(vocabulary: Vocabulary, tokens: Tokens, word: str, option: str) -> int:
    """The id of a word that a caption could hold."""
    if not word.strip():
        raise OptionError(f"{option}: the word is empty.", f"Name a word, or leave {option} out.")
    try:
        token = vocabulary.id_of(word)
    except KeyError:
        if len(words := re.split(r"[\s,]+", word.strip(" ,"))) > 1:
            fix = f"Each word by itself: {' '.join(f'{option} {each}' for each in words)}; in a file on its own line"
            raise OptionError(f'{option} "{word}": is more than one word.', f"{fix}.") from None
        fix = "The vocabulary is vocabulary.txt in the bundle."
        near = difflib.get_close_matches(word.casefold(), vocabulary.words, n=3)
        if near:
            fix = f"Near words: {', '.join(near)}."
        raise OptionError(f"{option} {word}: is no word of this model.", fix) from None
    if token == tokens.end:
        raise OptionError(f"{option} {word}: is the token that ends a caption.", "Leave it out.")
    return token
