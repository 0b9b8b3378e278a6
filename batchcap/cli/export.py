"""The command `export`. What is behind it is imported when it runs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from batchcap.cli import shared
from batchcap.cli.frameworks import need_export, tensorflow_loaded
from batchcap.cli.train import distill, train

if TYPE_CHECKING:
    from batchcap_export.options.bundles import BundleOptions, Precisions
    from batchcap_export.options.importing import ImportOptions
    from batchcap_export.proof.parity import Parity

_BUNDLE = "The bundle"
_COMPARED = "Comparison and scores"
_PRECISIONS = "More precisions"


class _Variant(Enum):
    """An option that is given several times takes no Literal."""

    FP16 = "fp16"
    INT8 = "int8"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    panel = "Make a model"
    app.command(rich_help_panel=panel)(distill)
    app.command(rich_help_panel=panel)(train)
    app.command(rich_help_panel=panel)(export)


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Run folder of batchcap train; a saved network of Keras (.keras, .h5, SavedModel); a frozen graph "
            "(.pb) or checkpoint (model.ckpt-*) of im2txt; or a Python file with a function captioner() "
            "(FILE.py:NAME: another).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle folder to make; it must not exist.")],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of at least 64 pictures for the comparison. [dim]Default: the dev pictures of a run; "
            "everything else needs it[/dim]"
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
    name: Annotated[
        str | None, typer.Option(help="Its name. [dim]Default: the folder's[/dim]", rich_help_panel=_BUNDLE)
    ] = None,
    bundle_version: Annotated[
        str, typer.Option("--bundle-version", help="Its version.", rich_help_panel=_BUNDLE)
    ] = "1",
    store: Annotated[
        Literal["float32", "float16", "int8"],
        typer.Option(
            help="Of a run: round the big weights, for a smaller bundle. Arithmetic stays float32.",
            rich_help_panel=_BUNDLE,
        ),
    ] = "float32",
    beam_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Its --beam-size where a run names none. [dim]Default: the model's[/dim]",
            rich_help_panel=_BUNDLE,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Its --max-length where a run names none. [dim]Default: the model's[/dim]",
            rich_help_panel=_BUNDLE,
        ),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Its --length-penalty where a run names none. [dim]Default: the model's[/dim]",
            rich_help_panel=_BUNDLE,
        ),
    ] = None,
    text: Annotated[
        Literal["plain", "english"] | None,
        typer.Option(
            help="How captions are written. english: 's, n't and punctuation join their words. "
            "[dim]Default: the model's[/dim]",
            rich_help_panel=_BUNDLE,
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="What the model learnt from, for its card.", rich_help_panel=_BUNDLE)] = "",
    terms: Annotated[
        str, typer.Option(help="Under which terms it may be used, for its card.", rich_help_panel=_BUNDLE)
    ] = "",
    score: Annotated[
        bool,
        typer.Option(
            "--score/--no-score", help="Of a run: score the bundle on its dev pictures.", rich_help_panel=_COMPARED
        ),
    ] = True,
    also_score: Annotated[
        list[Path] | None,
        typer.Option(
            help="Of a run: folders with other copies of some dev pictures, scored too. Repeatable.",
            rich_help_panel=_COMPARED,
        ),
    ] = None,
    min_distinct: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of the compared captions that must be different.",
            rich_help_panel=_COMPARED,
        ),
    ] = 0.5,
    precision: Annotated[
        list[_Variant] | None,
        typer.Option(
            help="More graphs beside float32, for run --precision; judged by their captions. Repeatable.",
            rich_help_panel=_PRECISIONS,
        ),
    ] = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            help="Of int8: folders of pictures like those to be captioned, at least 64. Repeatable.",
            rich_help_panel=_PRECISIONS,
        ),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="Captions (as for train) of at least 500 compared pictures: another precision may lose 1% of CIDEr. "
            "[dim]Default: those of a run; without any, 3% of the captions may change[/dim]",
            rich_help_panel=_PRECISIONS,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Keep a precision that costs too much; int8 then runs only where it is asked for.",
            rich_help_panel=_PRECISIONS,
        ),
    ] = False,
    verbose: shared.Verbose = 0,
) -> None:
    """Turn a captioner into a bundle, proven to say the same words. If it does not, no bundle remains."""
    need_export()
    from batchcap_export.exporting.checks import check_export
    from batchcap_export.options.bundles import BundleOptions, Precisions
    from batchcap_export.options.importing import ImportOptions

    precisions = Precisions(
        wanted=tuple(choice.value for choice in precision or ()),
        calibrate=tuple(calibrate or ()),
        references=references,
        force=force,
    )
    options = BundleOptions(
        name=name or output.name,
        version=bundle_version,
        store=store,
        beam_size=beam_size,
        max_length=max_length,
        length_penalty=length_penalty,
        text=text,
        data=data,
        terms=terms,
        min_distinct=min_distinct,
    )
    how = ImportOptions(
        vocabulary=vocabulary,
        decoder=decoder,
        map=tuple(map_) if map_ else None,
        size=size,
        scale=scale,
        resize=resize,
        start=start,
        end=end,
        unknown=unknown,
        padding=padding,
    )
    copies = also_score or []
    check_export(source, how, output, options, images, score, copies, precisions=precisions)
    with tensorflow_loaded(verbose, "Stopped: no bundle was made, and nothing of it is left."):
        parity = _export(source, how, output, options, images, score, copies, precisions)
    typer.echo(f"{output}: {parity.summary()}")
    typer.echo(f"Try it: batchcap run PHOTOS -o captions.jsonl --model {output}")


def _export(
    source: str,
    how: ImportOptions,
    output: Path,
    options: BundleOptions,
    images: Path | None,
    score: bool,
    copies: list[Path],
    precisions: Precisions,
) -> Parity:
    """Export a run folder, or what was made elsewhere; what the comparison found."""
    from batchcap.console.terminal import say
    from batchcap_export.exporting.checks import is_run
    from batchcap_export.packaging.bundling import export_run, export_source

    if is_run(source):
        return export_run(Path(source), output, options, images, score, copies, say, precisions=precisions)
    return export_source(source, how, output, options, images, say, precisions=precisions)
