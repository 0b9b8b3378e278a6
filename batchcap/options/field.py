"""One option, once: an annotated field of an options class says all that checks, command line and docs need.

::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class RunOptions:
        batch_size: Annotated[int, Option("Images that go through the model together.", low=1, high=4096)] = 32

The command line makes ``--batch-size`` and ``BATCHCAP_BATCH_SIZE`` of it (`cli.parameters`), the class checks its type
and its range (`take_types`, `check_ranges`), and the docs have it as a row of a table (`options.table`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from batchcap.errors import OptionError
from batchcap.options.types import checked, hints

CAPTIONS: Final = "Captions"
WORDS: Final = "Words"
SAMPLING: Final = "Sampling"
SPEED: Final = "Device and speed"
OUTPUT: Final = "Output"
OPERATION: Final = "Operation"
REPORTS: Final = "Reports"
WATCHING: Final = "Watching"
TERMINAL: Final = "Terminal"
PANELS: Final = (CAPTIONS, WORDS, SAMPLING, SPEED, OUTPUT, OPERATION, REPORTS, WATCHING, TERMINAL)
"""The groups of options in a help text, in their order."""


@dataclass(frozen=True, slots=True)
class Option:
    """What stands beside the type and the default of an option."""

    help: str
    """One or two short sentences, for people who run the command."""
    _: dataclasses.KW_ONLY
    name: str = ""
    """The name on the command line, where it is not the field's: ``bundle-version``."""
    short: str = ""
    """A second name: ``-o``."""
    panel: str = ""
    """Its group in the help of the command; empty: the first one."""
    metavar: str = ""
    """What stands for the value in the help; empty: made from the type."""
    low: float | None = None
    """The smallest number allowed."""
    high: float | None = None
    """The largest number allowed."""
    above: float | None = None
    """In place of ``low``: numbers must be larger than this one."""
    valid: str = ""
    """What is valid, in words, where type and range do not say it well."""
    unset: str = ""
    """The default in words, where the command line has another one than the field. An option not given is then None."""
    env: bool = True
    """Whether an environment variable sets it too: ``BATCHCAP_BATCH_SIZE``."""
    negative: bool = False
    """Of a switch: ``--no-NAME`` turns it off."""
    count: bool = False
    """It takes no value; the value is how often it is given."""
    alone: str = ""
    """What it means without a value: a value is then one of its choices, and every other word is none."""
    argument: bool = False
    """It is given by its place on the command line, not by a name."""
    text: bool = False
    """The command line gives it as text; the command makes the value of it."""
    readable: bool = False
    """Of a path: a file that exists but may not be read is wrong usage."""


@dataclass(frozen=True, slots=True)
class OptionField:
    """An option with the field that it describes."""

    field: str
    """The name of the field."""
    kind: Any
    """The type, without annotations: ``int | None``."""
    default: Any
    """The default, or `dataclasses.MISSING` where a value must be given."""
    option: Option

    @property
    def flag(self) -> str:
        """The name on the command line: ``--batch-size``, or ``INPUT`` of an argument."""
        if self.option.argument:
            return self.option.metavar or self.field.upper()
        return f"--{self.option.name or self.field.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it too; empty: none does."""
        return f"BATCHCAP_{self.option.name or self.field}".replace("-", "_").upper() if self.option.env else ""

    @property
    def choices(self) -> tuple[str, ...]:
        """What can be chosen, where only a few words can."""
        kind = plain_kind(self.kind)
        return get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def range(self) -> str:
        """The numbers that are valid, in words: ``from 1 to 4096``; empty where all are."""
        low, high, above = self.option.low, self.option.high, self.option.above
        if self.option.valid or low is high is above is None:
            return self.option.valid
        if low is not None and high is not None:
            return f"from {low:g} to {high:g}"
        limits = {"above": above, "at least": low, "at most": high}
        return " and ".join(f"{words} {limit:g}" for words, limit in limits.items() if limit is not None)

    @property
    def whole_numbers(self) -> str:
        """``a whole number from 1 to 4096``, where the range has both ends; else empty."""
        low, high = self.option.low, self.option.high
        if plain_kind(self.kind) is not int or low is None or high is None:
            return ""
        return f"a whole number from {low:g} to {high:g}"

    def check_range(self, value: Any) -> None:
        """Raise OptionError for a number out of range; None is in every range."""
        low, high, above = self.option.low, self.option.high, self.option.above
        if value is None or (low is high is above is None):
            return
        too_low = (low is not None and not value >= low) or (above is not None and not value > above)
        if too_low or (high is not None and not value <= high):
            raise OptionError(f"{self.flag} {value}: must be {self.range}.")


def without_none(kind: Any) -> Any:
    """Of a union its first type that is not None: int of ``int | None``."""
    if get_origin(kind) in (Union, UnionType):
        return next(each for each in get_args(kind) if each is not type(None))
    return kind


def is_several(kind: Any) -> bool:
    """Whether it is a tuple of any length, ``tuple[int, ...]``: the option can be given again and again."""
    return get_origin(without_none(kind)) is tuple and get_args(without_none(kind))[-1] is Ellipsis


def plain_kind(kind: Any) -> Any:
    """The type of one value: int of ``int | None`` and of ``tuple[int, ...]``."""
    return get_args(without_none(kind))[0] if is_several(kind) else without_none(kind)


@cache
def fields_of(options: type) -> tuple[OptionField, ...]:
    """The options of a dataclass or a TypedDict, in their order; fields without an `Option` are left out.

    Those of a TypedDict have the default None: nothing was chosen.
    """
    annotated = get_type_hints(options, include_extras=True)
    if is_typeddict(options):
        defaults = dict.fromkeys(annotated)
    else:
        defaults = {field.name: field.default for field in dataclasses.fields(options)}
    found = []
    for name, default in defaults.items():
        option = option_in(annotated[name])
        if option is not None:
            found.append(OptionField(name, hints(options)[name], default, option))
    return tuple(found)


def option_in(annotation: Any) -> Option | None:
    """The `Option` of ``Annotated[int, Option(...)]``, or of that in a union with None."""
    if get_origin(annotation) is Annotated:
        return next((each for each in annotation.__metadata__ if isinstance(each, Option)), None)
    if get_origin(annotation) in (Union, UnionType):
        return next((found for each in get_args(annotation) if (found := option_in(each))), None)
    return None


def field_of(options: type, name: str) -> OptionField:
    """The option in one field of an options class."""
    return next(field for field in fields_of(options) if field.field == name)


def check_types(options: type, given: Mapping[str, object]) -> dict[str, Any]:
    """What was given for fields of ``options``, each in the type of its field.

    Raises:
        OptionError: a value is of another type; see `types.checked`.
    """
    valid = {field.field: field.whole_numbers or _words(field) for field in fields_of(options)}
    return {name: checked(name, value, hints(options)[name], valid.get(name, "")) for name, value in given.items()}


def _words(field: OptionField) -> str:
    return "" if plain_kind(field.kind) in (int, float) else field.option.valid


def take_types(options: Any) -> None:
    """Replace every value of a frozen options object by itself in the type of its field.

    Raises:
        OptionError: a value is of another type; see `types.checked`.
    """
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    for name, value in check_types(type(options), given).items():
        object.__setattr__(options, name, value)


def check_ranges(options: Any) -> None:
    """Raise OptionError for the first number in an options object that is out of its range."""
    of: type = type(options)
    for field in fields_of(of):
        field.check_range(getattr(options, field.field))


def require(condition: bool, message: str, fix: str = "") -> None:
    """Raise OptionError unless a condition holds that more than one option decides."""
    if not condition:
        raise OptionError(message, fix)
