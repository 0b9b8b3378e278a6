"""One command of the command line, built when it is needed: reading its options takes typer a while."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import typer
from typer.core import TyperCommand
from typer.main import get_command

from batchcap.cli.optional_values import with_values
from batchcap.cli.parameters import flattened
from batchcap.options.field import TERMINAL

MAKE_A_MODEL: Final = "Make a model"
OUTPUTS: Final = "Outputs"


def _nothing() -> None:
    """Most commands have nothing to do first."""


@dataclass(frozen=True, slots=True)
class Command:
    """A function, and what the list of commands says of it."""

    function: Callable[..., None]
    """See `parameters.flattened`; its docstring is the help."""
    panel: str | None = None
    """Its group in the list of commands."""
    names: Callable[[], Mapping[str, Any]] = dict
    """Imports what the annotations of ``function`` use and its module does not import."""
    first_panel: str | None = None
    """The title of the options without a group of their own, where "Options" says too little."""
    before: Callable[[], None] = _nothing
    """Runs before anything is made of what was given; raises where the command cannot run here."""

    @property
    def name(self) -> str:
        """What a person types."""
        return self.function.__name__

    def listed(self) -> TyperCommand:
        """The command as the list of commands needs it, without its options."""
        return TyperCommand(self.name, help=inspect.getdoc(self.function), rich_help_panel=self.panel)

    def build(self) -> TyperCommand:
        """The command as typer runs it."""
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
        function = flattened(self.function, self.names(), self.before, self.first_panel)
        alone.command(self.name, cls=_ReadableCommand, rich_help_panel=self.panel)(function)
        command = get_command(alone)
        assert isinstance(command, TyperCommand)
        return command


class Commands(Mapping[str, TyperCommand]):
    """Commands by name, each built when it is first asked for."""

    def __init__(self, commands: tuple[Command, ...]) -> None:
        self.listed = {command.name: command for command in commands}
        self._built: dict[str, TyperCommand] = {}

    def __getitem__(self, name: str) -> TyperCommand:
        if name not in self._built:
            self._built[name] = self.listed[name].build()
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.listed)

    def __len__(self) -> int:
        return len(self.listed)


class _ReadableCommand(TyperCommand):
    """Its help has no typer words for types, and the help option in the last group."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = getattr(self.callback, "options", {})
        rest: list[str] = super().parse_args(ctx, with_values(args, options.values()))
        return rest

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = [*super().get_params(ctx)]
        for param in params:
            if param.param_type_name == "argument":
                param.display_type_rich = _no_type  # else ``<list[Path]>``
            elif param.name == "help":
                param.metavar, param.rich_help_panel = "", TERMINAL
        return params


def _no_type(ctx: Any) -> None:
    """What typer shows beside the name of an argument."""
