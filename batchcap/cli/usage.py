"""Messages for wrong usage: the option, the value that was given, and what is valid. Typer's own lack the value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from batchcap.errors import BatchcapError, OptionError


def path_of(text: str) -> Path:
    """Reads a path that may not be empty: as a `Path` it would be the current folder."""
    if not text:
        raise typer.BadParameter("the name is empty")
    return Path(text)


@contextmanager
def usage_explained(ctx: Any = None) -> Iterator[None]:
    """Shows what is wrong with a command line that typer cannot read, and ends with exit code 2.

    Args:
        ctx: of the group whose command is read; None while the group itself is.
    """
    try:
        yield
    except Exception as error:
        # Without any argument typer "fails" with its help.
        if not hasattr(error, "format_message") or type(error).__name__ == "NoArgsIsHelpError":
            raise
        from batchcap.console.terminal import show_error

        explained = explain(error, ctx)
        show_error(explained)
        raise typer.Exit(explained.exit_code) from None


def explain(error: Any, group: Any = None) -> BatchcapError:
    """What typer says of a wrong command line, as an `OptionError`.

    Args:
        error: a usage error of typer: ``ctx``, ``format_message()``, and, where it is about one value, ``param``.
        group: the context of the group, for errors that have no ``ctx``.
    """
    param, context = getattr(error, "param", None), getattr(error, "ctx", None)
    command = context.command_path if context is not None else "batchcap"
    if context is None and group is not None and group.invoked_subcommand:
        command = f"batchcap {group.invoked_subcommand}"
    fix = f"See {command} --help."
    found = list(getattr(error.__cause__, "errors", list)())  # of pydantic, which reads values for typer
    if param is None:
        message = _quoteless(error.format_message())
    elif found:
        message = f"{_given(param, context, found[0]['input'])}: {_expected(param, context, found[0])}"
    elif type(error).__name__ == "MissingParameter":
        message = f"{_name(param)} is missing: {re.sub(r'[.]? *.dim.*', '', param.help or 'it must be given')}"
    else:
        message = f"{_name(param)}: {error.message}"
    message = message.rstrip(". ")
    explained = OptionError(message if message.endswith("?") else f"{message}.", fix)
    explained.title = "Wrong option" if param is not None else "Wrong usage"
    return explained


def _name(param: Any) -> str:
    """``--beam-size``; of an argument its place in the usage, ``INPUT``."""
    return str(max(param.opts, key=len) if param.param_type_name == "option" else param.metavar or param.name.upper())


def _given(param: Any, context: Any, value: object) -> str:
    """``--beam-size four``, or ``BATCHCAP_BEAM_SIZE=four`` where the environment says so."""
    source = context.get_parameter_source(param.name) if context is not None else None
    if getattr(source, "name", "") == "ENVIRONMENT":
        return f"{param.envvar}={value}"
    return f"{_name(param)} {value}"


def _expected(param: Any, context: Any, found: Any) -> str:
    """What is valid, from the first error that pydantic found."""
    kind, settings = found["type"], found.get("ctx", {})
    if kind.startswith("int"):
        return f"must be {_whole_numbers(param, context) or 'a whole number'}"
    if kind.startswith("float"):
        return "must be a number"
    if kind.startswith("bool"):
        return "must be true or false"
    if kind == "greater_than_equal":
        return f"must be at least {settings['ge']:g}"
    if kind == "less_than_equal":
        return f"must be at most {settings['le']:g}"
    text = str(settings.get("error", found["msg"]))
    choices = re.findall(r"'([^']*)'", text.partition("is not one of")[2])
    return f"must be {_either(choices)}" if choices else text


def _whole_numbers(param: Any, context: Any) -> str:
    """The range of an option in words; empty where it has none."""
    options = getattr(context.command.callback, "options", {}) if context is not None else {}
    return options[param.name].whole_numbers if param.name in options else ""


def _either(choices: Sequence[str]) -> str:
    """``a, b or c``."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def _quoteless(text: str) -> str:
    """``Option '-o' requires an argument.`` without the quotes around what was typed."""
    return re.sub(r"'([^']*)'", r"\1", text)
