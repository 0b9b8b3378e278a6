"""From options classes to what typer reads: one parameter of a function for each annotated field.

A command says in its signature what it takes::

    def bench(options: BenchOptions, json_file: ReportFile = None, verbose: Verbose = 0) -> None:

`flattened` gives typer a function with every field of ``BenchOptions`` as a parameter of its own. When that function is
called, it makes the ``BenchOptions`` of what was given, and calls the command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from batchcap.cli.help import help_of, metavar
from batchcap.cli.optional_values import words_of
from batchcap.cli.usage import path_of
from batchcap.options.field import PANELS, OptionField, fields_of, is_several, option_in, plain_kind, without_none


@dataclass(frozen=True, slots=True)
class Given:
    """Marks a parameter that takes these options as a dict. Where a default is words alone, the value is None."""

    fields: tuple[OptionField, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """The options behind one parameter of a command."""

    fields: tuple[OptionField, ...]
    make: Callable[..., Any]
    """Takes the values by the names of their fields."""

    def value(self, given: Mapping[str, Any]) -> Any:
        return self.make(**{field.field: _plain(field, given[field.field]) for field in self.fields})


def flattened(
    command: Callable[..., None],
    names: Mapping[str, Any],
    before: Callable[[], None],
    first_panel: str | None,
) -> Callable[..., None]:
    """The function that typer reads; its attribute ``options`` has the fields by the names of their parameters.

    Args:
        command: its parameters are annotated with an options class, with ``Annotated[dict[str, Any], Given(fields)]``,
            or with an `Option` of their own.
        names: what its annotations use and its module does not import.
        before: runs before anything is made of what was given.
        first_panel: the title of the options without a group of their own; None: "Options".
    """
    hints = get_type_hints(command, localns=dict(names), include_extras=True)
    sources = {
        name: _source(name, hints[name], parameter.default)
        for name, parameter in inspect.signature(command).parameters.items()
    }
    fields = sorted((field for source in sources.values() for field in source.fields), key=_place)

    def call(**given: Any) -> None:
        before()
        command(**{name: source.value(given) for name, source in sources.items()})

    parameters = [_parameter(field, first_panel) for field in fields]
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(call).update(
        __signature__=inspect.Signature(parameters),
        options={field.field: field for field in fields},
    )
    return call


def _source(name: str, annotation: Any, default: Any) -> _Source:
    option = option_in(annotation)
    if option is not None:
        kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
        default = MISSING if default is inspect.Parameter.empty else default
        return _Source((OptionField(name, kind, default, option),), lambda **given: given[name])
    if get_origin(annotation) is Annotated:
        return _Source(next(each.fields for each in annotation.__metadata__ if isinstance(each, Given)), dict)
    return _Source(fields_of(annotation), annotation)


def _place(field: OptionField) -> tuple[bool, int]:
    """Everyday options come first, then the groups that a command alone has."""
    panel = field.option.panel
    return bool(panel), PANELS.index(panel) if panel in PANELS else -1


def _parameter(field: OptionField, first_panel: str | None) -> inspect.Parameter:
    """What typer reads of one option."""
    default = None if field.option.unset or field.default == () else field.default
    if isinstance(default, float) and default.is_integer():
        default = int(default)  # for the help; typer makes a float of it again
    kind = _kind(field)
    return inspect.Parameter(
        field.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind | None if default is None else kind, _info(field, first_panel)],
    )


def _kind(field: OptionField) -> Any:
    """The type as typer knows it: lists for tuples of any length, and no Literal in them."""
    if field.option.text:
        return str
    if not is_several(field.kind):
        return without_none(field.kind)
    if field.choices and not field.option.alone:
        return list[Enum("Choice", {choice: choice for choice in field.choices})]  # type: ignore[misc]
    return list[str] if field.choices else list[plain_kind(field.kind)]  # type: ignore[misc]


def _info(field: OptionField, first_panel: str | None) -> Any:
    option = field.option
    settings: dict[str, Any] = {"help": help_of(field), "envvar": field.variable or None, "show_envvar": False}
    if plain_kind(field.kind) is Path and not (option.readable or option.text):
        settings["parser"] = path_of
    if option.argument:
        return typer.Argument(metavar=option.metavar, **settings)
    if not option.env:  # else the options class checks it: its message names the option, whatever set it
        settings |= {"min": option.low, "max": option.high}
    if option.count:
        settings |= {"count": True, "callback": _note_verbosity, "show_default": False}
    names = [f"{field.flag}/--no-{field.flag[2:]}" if option.negative else field.flag, *filter(None, (option.short,))]
    return typer.Option(*names, metavar=metavar(field), rich_help_panel=option.panel or first_panel, **settings)


def _note_verbosity(ctx: typer.Context, verbosity: int) -> int:
    """For `app.GuardedGroup`, which stands outside the command."""
    ctx.find_root().obj = verbosity
    return verbosity


def _plain(field: OptionField, value: Any) -> Any:
    """A value of typer's in the type of its field."""
    if value is None and is_several(field.kind) and field.kind is without_none(field.kind):
        return ()
    if field.option.alone:
        return words_of(value, field.option.alone)
    if isinstance(value, list):
        return tuple(each.value if isinstance(each, Enum) else each for each in value)
    return value
