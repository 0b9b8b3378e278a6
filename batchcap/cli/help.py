"""What a help text says of an option: its text, and a short word for its value that fits on 80 columns."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, Final

from batchcap.options.field import OptionField, plain_kind

_WORDS: Final[dict[Any, str]] = {bool: "", int: "N", float: "X", Path: "PATH", str: "TEXT"}
# What a column can hold beside a long option and some words of help.
_WIDTH: Final = 22


def metavar(field: OptionField) -> str:
    """A word for the value: ``N``, ``jsonl|csv``; typer's own words are broken in the middle on 80 columns."""
    kind = plain_kind(field.kind)
    if field.option.metavar or field.option.count:
        return field.option.metavar
    if typing.get_origin(kind) is tuple:
        return " ".join(_WORDS[each] for each in typing.get_args(kind))
    return _choices(field) or _WORDS[kind]


def help_of(field: OptionField) -> str:
    """The help, with the choices that its metavar could not name, and a default that only words can say."""
    text = field.option.help
    if field.choices and _choices(field) == "CHOICE":
        text += f" One of {', '.join(field.choices)}."
    return f"{text} [dim]Default: {field.option.unset}[/dim]" if field.option.unset else text


def _choices(field: OptionField) -> str:
    """``jsonl|csv``, or ``CHOICE`` where that is too long; empty where there is no choice."""
    choices = "|".join(field.choices)
    return choices if len(choices) <= _WIDTH else "CHOICE"
