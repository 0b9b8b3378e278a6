"""The command `export`. What it calls is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchcap.cli.command import MAKE_A_MODEL, Command
from batchcap.cli.frameworks import need_export, tensorflow_loaded
from batchcap.cli.parameters import Given
from batchcap.cli.shared import VerboseTensorFlow
from batchcap.options.field import Option, fields_of

if TYPE_CHECKING:
    from batchcap_export.options.bundles import BundleOptions, Comparison, Precisions
    from batchcap_export.options.importing import ImportOptions


def export(
    source: Annotated[
        str,
        Option(
            "Run folder of batchcap train; a saved network of Keras (.keras, .h5, SavedModel); a frozen graph (.pb) or "
            "checkpoint (model.ckpt-*) of im2txt; or a Python file with a function captioner() (FILE.py:NAME: "
            "another).",
            metavar="SOURCE",
            argument=True,
            env=False,
        ),
    ],
    output: Annotated[
        Path, Option("The bundle folder to make. It must not exist.", short="-o", env=False, readable=True)
    ],
    how: ImportOptions,
    bundle: Annotated[dict[str, Any], Given(fields_of(BundleOptions))],
    compared: Comparison,
    precisions: Precisions,
    verbose: VerboseTensorFlow = 0,
) -> None:
    """Turn a captioner into a bundle, and check that both give the same captions. If not, no bundle is kept."""
    from batchcap.console.terminal import say
    from batchcap_export.exporting.checks import check_export
    from batchcap_export.options.bundles import BundleOptions
    from batchcap_export.training.recipes import is_run

    options = BundleOptions(**bundle | {"name": bundle["name"] or output.name})
    images, score, copies = compared.images, compared.score, compared.also_score
    check_export(source, how, output, options, images, score, copies, precisions=precisions)
    with tensorflow_loaded(verbose, "Stopped: no bundle was made, and nothing of it is left."):
        from batchcap_export.exporting.export import export_run, export_source

        if is_run(source):
            parity = export_run(Path(source), output, options, images, score, copies, say, precisions=precisions)
        else:
            parity = export_source(source, how, output, options, images, say, precisions=precisions)
    typer.echo(f"{output}: {parity.summary()}")
    typer.echo(f"Try it: batchcap run PHOTOS -o captions.jsonl --model {output}")


def _names() -> dict[str, Any]:
    from batchcap_export.options.bundles import BundleOptions, Comparison, Precisions
    from batchcap_export.options.importing import ImportOptions

    return {
        "BundleOptions": BundleOptions,
        "Comparison": Comparison,
        "ImportOptions": ImportOptions,
        "Precisions": Precisions,
    }


COMMAND = Command(export, panel=MAKE_A_MODEL, names=_names, before=need_export)
