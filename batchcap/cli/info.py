"""The command `info`."""

from __future__ import annotations

from typing import Annotated

from batchcap.cli.command import Command
from batchcap.cli.shared import Verbose
from batchcap.options.field import Option
from batchcap.options.run import DEFAULT_MODEL, MODEL_HELP


def info(
    bundle: Annotated[
        str,
        Option(MODEL_HELP, name="model", metavar="BUNDLE", argument=True),
    ] = DEFAULT_MODEL,
    verbose: Verbose = 0,
) -> None:
    """Show what a model bundle is, what it expects, and how good it was measured to be.

    The environment variable BATCHCAP_MODEL names the bundle too.
    """
    from batchcap.bundle.bundle import open_bundle
    from batchcap.console.tables import show_bundle

    show_bundle(open_bundle(bundle))


COMMAND = Command(info)
