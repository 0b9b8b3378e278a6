"""The command `verify`. What it calls is imported when it runs; TensorFlow only for ``--origin``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchcap.cli.command import Command
from batchcap.cli.frameworks import need_export, tensorflow_loaded
from batchcap.cli.shared import VerboseTensorFlow
from batchcap.errors import OptionError, export_errors_headed
from batchcap.options.field import Option
from batchcap.options.run import MODEL_HELP
from batchcap.tools.comparison import COMPARED_IMAGES

if TYPE_CHECKING:
    from batchcap.tools.verify import Check
    from batchcap_export.options.importing import ImportOptions

_HEADING = "The origin cannot be compared"


def verify(
    bundle: Annotated[
        str,
        Option(MODEL_HELP, metavar="BUNDLE", argument=True, env=False),
    ],
    how: ImportOptions,
    images: Annotated[
        Path | None,
        Option(
            f"Caption the first {COMPARED_IMAGES} images here.",
            metavar="FOLDER",
            unset="a few generated ones",
            env=False,
        ),
    ] = None,
    origin: Annotated[
        str | None,
        Option(
            "What the bundle was exported from, as `batchcap export` takes it: compare the captions of "
            f"{COMPARED_IMAGES} images again. A bundle holds no paths, so only you can say where it is. Needs "
            "TensorFlow.",
            metavar="SOURCE",
            env=False,
        ),
    ] = None,
    verbose: VerboseTensorFlow = 0,
) -> None:
    """Check that a bundle is whole, keeps its contract, and computes true log-probabilities; on the CPU.

    Every check is a line with its figure. --images checks whole captions of
    your images: the same at other batch sizes and in reverse order, and with
    the same probability when every word is scored by itself.

    Exit codes: 0 all holds; 1 something does not; 2 wrong usage.
    """
    _check_origin(origin, how, images)
    from batchcap.console.tables import show_verdict
    from batchcap.console.terminal import say
    from batchcap.tools.verify import verify as checks

    failed = _show(checks(bundle, images))
    if origin is not None and not failed:
        with tensorflow_loaded(verbose, "Stopped before all was compared."), export_errors_headed(_HEADING):
            from batchcap_export.exporting.origin import compare

            failed = _show(compare(bundle, origin, how, images, say))
    show_verdict(failed)
    if failed:
        raise typer.Exit(1)


def _check_origin(origin: str | None, how: ImportOptions, images: Path | None) -> None:
    """Raise for what would end the comparison with the origin later, without loading TensorFlow."""
    given = [field.name for field in fields(how) if getattr(how, field.name) is not None]
    if origin is None and given:
        raise OptionError(f"--{given[0]} says something of the origin.", "Add --origin SOURCE, or leave it out.")
    if origin is not None:
        need_export()
        from batchcap_export.exporting.checks import check_source

        with export_errors_headed(_HEADING):
            check_source(origin, how, images)


def _show(checks: Iterable[Check]) -> list[str]:
    """Print every check as it ends; the names of those that failed."""
    from batchcap.console.tables import show_check

    failed = []
    for check in checks:
        show_check(check)
        if not check.passed:
            failed.append(check.name)
    return failed


def _names() -> dict[str, Any]:
    from batchcap_export.options.importing import ImportOptions

    return {"ImportOptions": ImportOptions}


COMMAND = Command(verify, names=_names)
