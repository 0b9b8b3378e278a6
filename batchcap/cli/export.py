"""The command `export`. What is behind it is imported when it runs."""

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
    from batchcap_export.options.bundles import BundleOptions, Precisions
    from batchcap_export.options.importing import ImportOptions
    from batchcap_export.proof.parity import Parity

_COMPARED = "Comparison and scores"


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
    precisions: Precisions,
    images: Annotated[
        Path | None,
        Option(
            "Folder of at least 64 images for the comparison.",
            unset="the dev images of a run folder; other sources need it",
            env=False,
            readable=True,
        ),
    ] = None,
    score: Annotated[
        bool, Option("For a run folder: score the bundle on its dev images.", negative=True, panel=_COMPARED, env=False)
    ] = True,
    also_score: Annotated[
        tuple[Path, ...],
        Option(
            "For a run folder: folders with other copies of some dev images, scored too. Repeatable.",
            panel=_COMPARED,
            env=False,
            readable=True,
        ),
    ] = (),
    verbose: VerboseTensorFlow = 0,
) -> None:
    """Turn a captioner into a bundle, and check that both give the same captions. If not, no bundle is kept."""
    from batchcap_export.exporting.checks import check_export
    from batchcap_export.options.bundles import BundleOptions

    options = BundleOptions(**bundle | {"name": bundle["name"] or output.name})
    check_export(source, how, output, options, images, score, also_score, precisions=precisions)
    with tensorflow_loaded(verbose, "Stopped: no bundle was made, and nothing of it is left."):
        parity = _export(source, how, output, options, images, score, also_score, precisions)
    typer.echo(f"{output}: {parity.summary()}")
    typer.echo(f"Try it: batchcap run PHOTOS -o captions.jsonl --model {output}")


def _export(
    source: str,
    how: ImportOptions,
    output: Path,
    options: BundleOptions,
    images: Path | None,
    score: bool,
    copies: tuple[Path, ...],
    precisions: Precisions,
) -> Parity:
    """Export a run folder, or what was made elsewhere; what the comparison found."""
    from batchcap.console.terminal import say
    from batchcap_export.exporting.export import export_run, export_source
    from batchcap_export.training.recipes import is_run

    if is_run(source):
        return export_run(Path(source), output, options, images, score, copies, say, precisions=precisions)
    return export_source(source, how, output, options, images, say, precisions=precisions)


def _names() -> dict[str, Any]:
    from batchcap_export.options.bundles import BundleOptions, Precisions
    from batchcap_export.options.importing import ImportOptions

    return {"BundleOptions": BundleOptions, "Precisions": Precisions, "ImportOptions": ImportOptions}


COMMAND = Command(export, panel=MAKE_A_MODEL, names=_names, before=need_export)
