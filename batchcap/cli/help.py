"""Short words for the kinds of values in help texts: typer's own are broken in the middle on 80 columns."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Final

_WORDS: Final[dict[Any, str]] = {bool: "", int: "N", float: "X", Path: "PATH", str: "TEXT"}
# What a column can hold beside a long option and some words of help.
_WIDTH: Final = 22


def shorten(params: Iterable[Any], callback: Any) -> None:
    """Give every option without a metavar a short one; choices that are too long for it go into the help text.

    Args:
        params: of a command of typer; they are changed.
        callback: the function behind it, whose hints say what the values are.
    """
    hints = typing.get_type_hints(callback) if callback is not None else {}
    for param in params:
        if param.param_type_name != "option" or param.metavar is not None:
            continue
        kind = _kind(hints.get(param.name, bool))  # --help is none of the callback's
        choices = _choices(kind)
        param.metavar = "|".join(choices) if choices else _metavar(kind)
        if len(param.metavar) > _WIDTH:
            param.metavar = "CHOICE"
            what, dim, default = param.help.partition(" [dim]")
            param.help = f"{what} One of {', '.join(choices)}.{dim}{default}"


def _kind(hint: Any) -> Any:
    """Of ``list[int] | None``: int."""
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        return _kind(next(each for each in typing.get_args(hint) if each is not type(None)))
    return _kind(typing.get_args(hint)[0]) if typing.get_origin(hint) is list else hint


def _choices(kind: Any) -> list[str]:
    if typing.get_origin(kind) is typing.Literal:
        return [str(choice) for choice in typing.get_args(kind)]
    return [str(choice.value) for choice in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return " ".join(_WORDS[each] for each in typing.get_args(kind))
    return _WORDS[kind]
