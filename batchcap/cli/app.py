"""The command line as a whole: its commands, and what becomes of their errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from batchcap import __version__
from batchcap.cli import (
    bench,
    compact,
    convert,
    distill,
    doctor,
    export,
    info,
    merge,
    repair,
    run,
    status,
    train,
    verify,
)
from batchcap.cli.command import Commands
from batchcap.cli.usage import usage_explained
from batchcap.errors import BatchcapError, OutputError
from batchcap.system.interrupts import Interrupted
from batchcap.system.process import forget_stdout

COMMANDS: Final = (
    run.COMMAND,
    status.COMMAND,
    convert.COMMAND,
    compact.COMMAND,
    merge.COMMAND,
    repair.COMMAND,
    info.COMMAND,
    doctor.COMMAND,
    bench.COMMAND,
    verify.COMMAND,
    distill.COMMAND,
    train.COMMAND,
    export.COMMAND,
)


class GuardedGroup(TyperGroup):
    """Turns every error of every command into one panel and its exit code; a traceback needs -vv."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = Commands(COMMANDS)

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        with _errors_shown(None), usage_explained():
            return super().make_context(*arguments, **settings)

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = [*super().get_params(ctx)]
        for param in params:
            param.metavar = ""  # all are switches
            param.hidden = param.name == "show_completion"  # --install-completion is for everyone
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the help: for a line a command none of them is built."""
        listing = copy(self)
        listing.commands = {command.name: command.listed() for command in COMMANDS}
        TyperGroup.format_help(listing, ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        with _errors_shown(ctx), usage_explained(ctx):
            return super().invoke(ctx)


@contextmanager
def _errors_shown(ctx: Any) -> Iterator[None]:
    """Shows an error, and ends with its exit code.

    Args:
        ctx: of the running command; None while the command line is read.
    """

    def verbosity() -> int:  # an option of the command sets it
        return (ctx.obj if ctx is not None else 0) or 0

    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BatchcapError as error:
        from batchcap.console.terminal import show_error

        show_error(error, verbosity())
        forget_stdout()
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Interrupted as stop:
        raise typer.Exit(128 + stop.signum) from None
    except BrokenPipeError:  # the reader has closed the pipe: no error, but `verify` has not checked all
        forget_stdout()
        raise typer.Exit(1 if ctx is not None and ctx.invoked_subcommand == "verify" else 0) from None
    except Exception as error:
        if hasattr(error, "exit_code"):  # of typer; no wrong usage, which was explained
            raise
        if isinstance(error.__cause__, KeyboardInterrupt):  # C extensions call it a failed import
            raise typer.Exit(130) from None
        _show_unforeseen(error, verbosity())
        raise typer.Exit(1) from None


def _show_unforeseen(error: Exception, verbosity: int) -> None:
    from batchcap.console.terminal import show_bug, show_error

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # other places are named where they are written
        show_error(OutputError(f"Standard output cannot be written: {error.strerror}."), verbosity)
        forget_stdout()
    else:
        show_bug(error, verbosity)


app: Final = typer.Typer(
    name="batchcap",
    cls=GuardedGroup,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Captions for folders of photos: offline, in batches, restartable.",
    epilog="Every option of run can also be set by an environment variable, and so can the options of other commands "
    "about the model, the device and the terminal: BATCHCAP_DEVICE=cpu is --device cpu.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"batchcap {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version
