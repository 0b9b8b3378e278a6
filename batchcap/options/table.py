"""Options as tables in Markdown, for the docs: see ``docs/tables.py``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING
from typing import NamedTuple

from batchcap.options.field import OptionField, fields_of, plain_kind


class Row(NamedTuple):
    """One option in words."""

    option: str
    """``-o, --output``."""
    does: str
    values: str
    """What is valid: the choices, or the range."""
    default: str
    """Empty where there is none: not given is what it says."""
    variable: str
    """The environment variable that sets it too; empty: none does."""


def options_table(fields: type | Iterable[OptionField]) -> list[Row]:
    """A row for each option.

    Args:
        fields: an options class, or its fields: `fields_of`, `chosen_fields`.
    """
    return [row(field) for field in (fields_of(fields) if isinstance(fields, type) else fields)]


def row(field: OptionField) -> Row:
    """One option."""
    name = ", ".join(filter(None, (field.option.short, field.flag)))
    if field.option.negative:
        name += f", --no-{field.flag[2:]}"
    values = ", ".join(map(str, field.choices)) or field.range
    return Row(name, field.option.help, values, default_in_words(field), field.variable)


def default_in_words(field: OptionField) -> str:
    """What holds where the option is not given; empty where that is nothing, or off."""
    if field.option.unset or field.default is MISSING:
        return field.option.unset or "required"
    if field.option.count or field.default is None or field.default is False or field.default in ("", ()):
        return ""
    if field.default is True:  # of a switch whose --no-NAME turns it off
        return "on"
    if isinstance(field.default, tuple):
        return " ".join(map(str, field.default))
    return f"{field.default:g}" if plain_kind(field.kind) is float else str(field.default)


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a table, with a line at the end."""
    lines = ["| option | what it does | values | default |", "|---|---|---|---|"]
    for each in rows:
        # A | would end the cell, and < begin a tag.
        does, values, default = (text.replace("|", r"\|").replace("<", r"\<") for text in each[1:4])
        names = ", ".join(f"`{name}`" for name in each.option.split(", "))
        lines.append(f"| {names} | {does} | {values} | {default} |")
    return "".join(f"{line}\n" for line in lines)
