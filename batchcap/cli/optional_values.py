"""Options that may stand alone or with one of a few words, such as ``--retry-errors`` and ``--retry-errors truncated``.

The next word on the command line is their value only if it is one of those; else it may well be an input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from batchcap.options.field import OptionField

# As typer reads the environment variable of a switch.
_ON: Final = ("1", "true", "t", "yes", "y", "on")
_OFF: Final = ("0", "false", "f", "no", "n", "off", "")


def with_values(args: Sequence[str], fields: Iterable[OptionField]) -> list[str]:
    """The arguments of a command, with a value behind every option that may stand alone: ``--retry-errors=all``."""
    optional = {field.flag: field for field in fields if field.option.alone}
    found: list[str] = []
    words = deque(args)
    while words:
        word = words.popleft()
        if word == "--":
            return [*found, word, *words]
        if field := optional.get(word):
            has_value = bool(words) and words[0] in field.choices
            word += f"={words.popleft() if has_value else field.option.alone}"
        found.append(word)
    return found


def words_of(values: Iterable[str] | None, alone: str) -> tuple[str, ...]:
    """The values of such an option; an environment variable may also switch it on or off: ``1``, ``true``, ``0``."""
    words = [alone if value.lower() in _ON else value for value in values or ()]
    return tuple(word for word in words if word.lower() not in _OFF)
