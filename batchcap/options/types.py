"""Values of options in the type that their annotation says, or an error that names the option and what is valid."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

from batchcap.errors import OptionError

_KINDS: Final[dict[Any, tuple[str, str]]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "True or False"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
}
# Far beyond every option, and short enough to be shown.
_MOST_BITS: Final = 1000


def checked(name: str, value: object, wanted: Any, valid: str = "") -> Any:
    """The value as plain Python has it: what NumPy counts is an int, a text that names a file a Path.

    A bool is no number; a float is no int, though it is whole; an int is a float.

    Args:
        name: of the option.
        value: what was given.
        wanted: its annotation: int, float, bool, str, Path, a Literal, a tuple of any length, a union.
        valid: what is valid, in words, where the annotation does not say all.

    Raises:
        OptionError: it is of another type.
    """
    kinds = get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)
    if value is None and NoneType in kinds:
        return None
    for kind in kinds:
        if get_origin(kind) is tuple:
            return _texts_or_paths(name, value, get_args(kind)[0])
        if (plain := _plain(value, kind)) is not None:
            if Path in kinds and "\0" in str(plain):
                raise OptionError(f"{name}={value!r}: holds a NUL character.", "No file has such a name.")
            return plain
    if isinstance(value, str) and get_origin(kinds[0]) is Literal:
        raise _no_such(name, value, get_args(kinds[0]))
    said = valid or " or ".join(_described(kind) for kind in kinds if kind is not NoneType)
    raise OptionError(f"{name}={_shown(value)}: must be {said}.")


@cache
def hints(options: type) -> Mapping[str, Any]:
    """The annotation of every field, evaluated."""
    return get_type_hints(options)


def _plain(value: object, kind: Any) -> Any:
    """The value as ``kind`` itself, not as a class derived from it; None where it is no such thing."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        value = value.item()  # type: ignore[attr-defined]
    if get_origin(kind) is Literal:
        return next((each for each in get_args(kind) if isinstance(value, str) and value == each), None)
    if kind in (int, float) and isinstance(value, bool):
        return None
    reads = _READS.get(kind)
    try:
        return reads[1](value) if reads and isinstance(value, reads[0]) else None
    except (TypeError, OverflowError):  # a path of bytes; more than a float holds
        return None


def _int(value: Any) -> int | None:
    number = int(value)
    return number if number.bit_length() <= _MOST_BITS else None


_READS: Final[dict[Any, tuple[Any, Callable[[Any], Any]]]] = {
    int: (Integral, _int),
    float: (Real, float),
    bool: (bool, bool),
    str: (str, str.__str__),
    Path: (str | os.PathLike, Path),
}


def _texts_or_paths(name: str, value: object, kind: Any) -> tuple[Any, ...]:
    """Every value of a list; one alone is none."""
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    several = f"these: {', '.join(choices)}" if choices else _KINDS[kind][1]
    if isinstance(value, str):
        raise OptionError(f"{name}={value!r}: is one text.", f"Give a list of {several}: [{value!r}].")
    listed = isinstance(value, Iterable) and not isinstance(value, bytes | Mapping | os.PathLike)
    if not listed or getattr(value, "shape", None) == ():
        raise OptionError(f"{name}={_shown(value)}: must be a list of {several}.")
    items = tuple(cast("Iterable[object]", value))
    for item in items:
        if choices and isinstance(item, str) and item not in choices:
            raise _no_such(name, item, choices)
        if _plain(item, kind) is None:
            raise OptionError(f"{name}={_shown(items)}: must be a list of {several}, and {_shown(item)} is none.")
    return tuple(_plain(item, kind) for item in items)


def _no_such(name: str, value: str, choices: tuple[str, ...]) -> OptionError:
    what = "choice" if "_" in name else name
    fix = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
    return OptionError(f"--{name.replace('_', '-')} {value}: no such {what}.", f"Use {fix}.")


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    return _KINDS[kind][0]


def _shown(value: object) -> str:
    """As Python writes it, cut if it is long; a number that fills pages by its size."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"(a number of {value.bit_length():,} bits)"
    return " ".join(reprlib.repr(value).split())
