"""From tokens to text: how a model's words are written, as data of its bundle, and the style a person chose."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Final, Literal

import msgspec

Subwords = Literal["wordpiece", "sentencepiece", "bpe-@@", "bpe-</w>"]

# No control characters, line feeds among them. "\Z" and not "$", which also stands before a line feed at the end.
Written = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
Word = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]+\Z")]
Run = Annotated[str, msgspec.Meta(pattern=r"^[^ \x00-\x1f\x7f-\x9f]+( [^ \x00-\x1f\x7f-\x9f]+)*\Z")]

_MARKS: Final[dict[Subwords, str]] = {"wordpiece": "##", "sentencepiece": "\u2581", "bpe-@@": "@@", "bpe-</w>": "</w>"}
# No word of a vocabulary holds it.
_BORDER: Final = "\n"
_OPENING: Final = " \"'`([{«‹“„‘‚¿¡"
_CLOSING: Final = " \"')]}»›”’"
_STOPS: Final = (".", "!", "?", "…", "。", "！", "？")


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the tokens of a model are written. Without any field: with a space between.

    Pieces of words are put together first; all that follows looks at whole words, in the case of the model's
    vocabulary. Spaces are decided before contractions: those around one by its first and last word.
    What depends on more than the two words beside a space is not handled: one mark for quotes that open and quotes that
    close, or a hyphen that sometimes joins.
    """

    separator: Written = " "
    """Stands between two words."""
    no_space_before: tuple[Word, ...] = ()
    """Words without a separator before them: ``,``, ``.``, ``)``, ``'s``, ``n't``."""
    no_space_after: tuple[Word, ...] = ()
    """Words without a separator after them: ``(``, ``$``, ``#``."""
    contractions: dict[Run, Word] = {}
    """What is written for words with a space between: ``gon na`` is ``gonna``. Of several the longest."""
    subwords: Subwords | None = None
    """How pieces of words are marked: ``wordpiece`` puts ``##`` before what continues a word, ``sentencepiece`` U+2581
    before what begins one, ``bpe-@@`` ``@@`` after what goes on, ``bpe-</w>`` ``</w>`` after what ends one."""


def has_pieces(words: Iterable[str], subwords: Subwords) -> bool:
    """Whether any word bears the mark of that scheme; where none does, it is not this vocabulary's."""
    return any(_MARKS[subwords] in word for word in words)


class Detokenizer:
    """Ids of tokens to text.

    Args:
        words: the vocabulary; no word holds a line feed.
        text: how they are written.
        whole: ids of tokens that are no pieces although they bear no mark, such as the one for unknown words.
    """

    def __init__(self, words: Sequence[str], text: Text, whole: Collection[int] = ()) -> None:
        self._pieces = [_piece(word, None if i in whole else text.subwords) for i, word in enumerate(words)]
        self._separator = text.separator
        self._no_space_before, self._no_space_after = frozenset(text.no_space_before), frozenset(text.no_space_after)
        # By the first word, the longest run first.
        self._runs: dict[str, list[tuple[list[str], str]]] = {}
        for run in sorted(text.contractions, key=lambda run: -run.count(" ")):
            first = self._runs.setdefault(run.split(" ", maxsplit=1)[0], [])
            first.append((run.split(" "), text.contractions[run]))
        self._special = self._no_space_before | self._no_space_after | self._runs.keys()

    def __call__(self, ids: Iterable[int]) -> str:
        """The text; empty where there are no tokens, or only marks of pieces."""
        words = [word for word in "".join([self._pieces[i] for i in ids]).split(_BORDER) if word]
        if self._special.isdisjoint(words):  # most captions
            return self._separator.join(words)
        written: list[str] = []
        at, joined = 0, True
        while at < len(words):
            if not joined and words[at] not in self._no_space_before:
                written.append(self._separator)
            count, word = self._contracted(words, at)
            written.append(word)
            at += count
            joined = words[at - 1] in self._no_space_after
        return "".join(written)

    def _contracted(self, words: list[str], at: int) -> tuple[int, str]:
        """How many words are written as one from this place, and how."""
        for run, written in self._runs.get(words[at], ()):
            if words[at : at + len(run)] == run:
                return len(run), written
        return 1, words[at]


def _piece(word: str, subwords: Subwords | None) -> str:
    """A token without its mark, with a border wherever a word begins or ends."""
    if subwords is None:
        return f"{_BORDER}{word}{_BORDER}"
    mark = _MARKS[subwords]
    if subwords == "wordpiece":
        return word.removeprefix(mark) if word.startswith(mark) else _BORDER + word
    if subwords == "bpe-@@":
        return word.removesuffix(mark) if word.endswith(mark) else word + _BORDER
    # The marks of the other two stand for spaces, wherever they are in a token.
    return word.replace(mark, _BORDER)


def sentence(caption: str) -> str:
    """A caption as a sentence: its first letter a capital, and a full stop where it does not end in one of ``.!?…``.

    Nothing else changes, and a first word that holds a capital already (``iPod``) keeps its spelling. Quotes and
    brackets around are passed over. What is empty stays empty.
    """
    if not caption.strip():
        return caption
    first = len(caption) - len(caption.lstrip(_OPENING))
    word = caption[first:].split(maxsplit=1)[:1]
    if word and word[0] == word[0].lower():
        # Of some letters, such as U+01C6, the capital that begins a word is not the upper case.
        caption = caption[:first] + caption[first].title() + caption[first + 1 :]
    return caption if caption.rstrip(_CLOSING).endswith(_STOPS) else f"{caption}."
