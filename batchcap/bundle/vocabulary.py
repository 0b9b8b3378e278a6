"""The words of a model: ids to words and back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from batchcap.errors import BundleError

# Line breaks among them; and what a terminal obeys instead of showing it has no place in a caption.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Every token of a model; a token's place is its id.

    Raises:
        BundleError: no word at all, a word that is empty or holds a control character, or one word twice.
    """

    words: tuple[str, ...]
    """The word of each id, special tokens included."""
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.words:
            raise BundleError("The vocabulary has no word.")
        ids: dict[str, int] = {}
        for i, word in enumerate(self.words):
            if not word or _CONTROL.search(word):
                what = "without control characters, and not empty"
                raise BundleError(f"The word of id {i} is {word!r}: a word is one line of text, {what}.")
            if word in ids:
                raise BundleError(f"The word {word!r} stands twice, as id {ids[word]} and id {i}.")
            ids[word] = i
        object.__setattr__(self, "_ids", ids)

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a vocabulary file: UTF-8, one token a line, the first line is id 0.

        Raises:
            BundleError: the file is missing, is not UTF-8, or its words cannot be used; the message names it.
        """
        try:
            text = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror or error}.") from None
        except UnicodeDecodeError as error:
            raise BundleError(f"{path}: is not UTF-8 text (byte {error.start}).") from None
        # Only "\n" ends a line: str.splitlines would also split at characters that may stand in a word.
        lines = text.removesuffix("\n").split("\n")
        try:
            return cls(tuple(lines))
        except BundleError as error:
            raise BundleError(f"{path}: {error.message}", error.fix) from None

    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""
        path.write_bytes("".join(f"{word}\n" for word in self.words).encode("utf-8"))

    def id_of(self, word: str) -> int:
        """The id of ``word``.

        Raises:
            KeyError: it is no word of this vocabulary.
        """
        return self._ids[word]

    def detokenize(self, ids: Iterable[int]) -> str:
        """The words of ``ids`` with a space between, to compare them; `bundle.detokenizer` writes for people."""
        return " ".join([self.words[i] for i in ids])
