"""The command `verify`. What is behind it is imported when it runs; TensorFlow only for ``--origin``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchcap.cli import shared
from batchcap.cli.frameworks import need_export, tensorflow_loaded
from batchcap.errors import OptionError, export_errors_headed

if TYPE_CHECKING:
    from batchcap.tools.verify import Check

_HEADING = "The origin cannot be compared"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(verify)


def verify(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="Folder of a bundle, or the name of an embedded one.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="FOLDER",
            help="Caption the first 64 pictures here. [dim]Default: a few generated ones[/dim]",
            readable=False,
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--origin",
            metavar="SOURCE",
            help="What the bundle was exported from, as `batchcap export` takes it: repeat the comparison over 64 "
            "pictures. A bundle holds no paths, so only you can say where it is. Needs TensorFlow.",
        ),
    ] = None,
    vocabulary: shared.Vocabulary = None,
    decoder: shared.Decoder = None,
    map_: shared.Map = None,
    size: shared.Size = None,
    scale: shared.Scale = None,
    resize: shared.Resize = None,
    start: shared.Start = None,
    end: shared.End = None,
    unknown: shared.Unknown = None,
    padding: shared.Padding = None,
    verbose: shared.Verbose = 0,
) -> None:
    """Check that a bundle is whole, keeps its contract, and computes true log-probabilities; on the CPU.

    Every check is a line with its figure. --images checks whole captions of
    your pictures: the same at other batch sizes and in reverse order, and as
    likely as they are said to be when every word is scored by itself.

    Exit codes: 0 all holds; 1 something does not; 2 wrong usage.
    """
    how = {
        "vocabulary": vocabulary,
        "decoder": decoder,
        "map": tuple(map_) if map_ else None,
        "size": size,
        "scale": scale,
        "resize": resize,
        "start": start,
        "end": end,
        "unknown": unknown,
        "padding": padding,
    }
    given = [name for name, value in how.items() if value is not None]
    if origin is None and given:
        raise OptionError(f"--{given[0]} says something of the origin.", "Add --origin SOURCE, or leave it out.")
    if origin is not None:
        need_export()
        from batchcap_export.exporting.checks import check_source
        from batchcap_export.options.importing import ImportOptions

        with export_errors_headed(_HEADING):
            check_source(origin, ImportOptions(**how), images)
    from batchcap.console.tables import show_verdict
    from batchcap.console.terminal import say
    from batchcap.tools.verify import verify as checks

    failed = _show(checks(bundle, images))
    if origin is not None and not failed:
        with tensorflow_loaded(verbose, "Stopped before all was compared."), export_errors_headed(_HEADING):
            from batchcap_export.exporting.origin import compare

            failed = _show(compare(bundle, origin, ImportOptions(**how), images, say))
    show_verdict(failed)
    if failed:
        raise typer.Exit(1)


def _show(checks: Iterable[Check]) -> list[str]:
    """Print every check as it ends; the names of those that failed."""
    from batchcap.console.tables import show_check

    failed = []
    for check in checks:
        show_check(check)
        if not check.passed:
            failed.append(check.name)
    return failed
