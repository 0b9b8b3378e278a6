"""The commands of the export stage: `distill`, `train` and `export`. What is behind them is imported when they run."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from batchcap import cli_origin
from batchcap.errors import MissingExtraError, OptionError

Function = TypeVar("Function", bound=Callable[..., Any])

_BUNDLE = "The bundle"
_COMPARED = "Comparison and scores"
_PRECISIONS = "More precisions"
_EXTRA = "pip install 'batchcap[export,eval]'"


class _Variant(Enum):
    """An option that is given several times takes no Literal."""

    FP16 = "fp16"
    INT8 = "int8"


def need_export() -> None:
    """The export stage, or an error that says which extra to install."""
    # TensorFlow tells of its processor flags and of every GPU that is not there; what matters is raised as well.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import batchcap_export  # noqa: F401 - before Keras, so that no trace of it stays in the home folder

    try:
        import keras  # noqa: F401
        import onnx  # noqa: F401
        import tensorflow as tf  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"This command needs TensorFlow and tf2onnx ({error}).", f"Install them: {_EXTRA}"
        ) from error


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    panel = "Make a model"
    app.command(rich_help_panel=panel)(distill)
    app.command(rich_help_panel=panel)(train)
    app.command(rich_help_panel=panel)(export)


def distill(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES", help="Folders of pictures to learn from; they need no captions."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Run folder; the same command goes on where it stopped.")
    ],
    teacher: Annotated[Path, typer.Option(help="The teacher: a .keras network with input in -1..1.")],
    layer: Annotated[str, typer.Option(help="The teacher's layer to imitate; its map must be 7x7.")],
    held_out: Annotated[
        Path,
        typer.Option(
            help="Folder of pictures that are only measured; where it lies in IMAGES, they are left out there."
        ),
    ],
    names: Annotated[
        list[Path] | None,
        typer.Option(
            help="Only the pictures that these split files name (one a line), for the first folder. Repeatable."
        ),
    ] = None,
    held_out_names: Annotated[
        Path | None, typer.Option(help="Only the pictures that this split file names, for --held-out.")
    ] = None,
    views: Annotated[int, typer.Option(min=1, help="Augmented views of each picture of the first folder.")] = 8,
    extra_views: Annotated[int, typer.Option(min=1, help="Views of each picture of the other folders.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all views.")] = 7,
    batch_size: Annotated[int, typer.Option(min=1, help="Views a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="AdamW's highest rate.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(min=0.0, help="AdamW's, of all weights.")] = 0.02,
    whitening: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="0: plain squared error; 1: every component counts alike.")
    ] = 0.5,
    precision: Annotated[
        Literal["mixed_bfloat16", "float32"], typer.Option(help="Arithmetic while training; weights stay float32.")
    ] = "mixed_bfloat16",
    seed: Annotated[int, typer.Option(min=0, help="Of all that is random.")] = 1,
) -> None:
    """Train the `small` backbone to give the features of a teacher network."""
    need_export()
    from batchcap.console_progress import Steps
    from batchcap_export.distill import DistillOptions, Pictures, distill_folders

    options = DistillOptions(
        views=views,
        extra_views=extra_views,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        whitening=whitening,
        seed=seed,
        precision=precision,
    )
    pictures = Pictures(images, names or [], held_out, held_out_names)
    with Steps() as steps:
        weights = distill_folders(teacher, layer, pictures, output, options, steps)
    typer.echo(f"{weights}: the distilled backbone. Next: batchcap train --backbone small --weights {weights} ...")


def train(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of the pictures.")],
    captions: Annotated[
        Path, typer.Option(help="Captions: lines of NAME.jpg#0<TAB>caption, as in Flickr8k.token.txt.")
    ],
    train_split: Annotated[Path, typer.Option(help="Names of the pictures to learn from, one a line.")],
    dev_split: Annotated[Path, typer.Option(help="Names of the pictures for early stopping and the scores.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Run folder; the same command goes on where it stopped.")
    ],
    architecture: Annotated[
        Literal["attention-gru", "show-and-tell", "show-attend-tell"], typer.Option(help="The decoder.")
    ] = "attention-gru",
    backbone: Annotated[
        str, typer.Option(help="small, or a network of keras.applications by name, such as InceptionResNetV2.")
    ] = "small",
    weights: Annotated[
        str, typer.Option(help="The backbone's weights: imagenet (downloads), none, or a file.")
    ] = "none",
    size: Annotated[
        int | None, typer.Option(min=32, help="Rows and columns of the input. [dim]Default: the backbone's[/dim]")
    ] = None,
    min_count: Annotated[int, typer.Option(min=1, help="A word must occur this often to be learnt.")] = 5,
    max_length: Annotated[int, typer.Option(min=1, help="Words of a caption; longer ones are cut.")] = 20,
    units: Annotated[int, typer.Option(min=1, help="Width of embedding, recurrent layer and attention.")] = 512,
    dropout: Annotated[tuple[float, float, float], typer.Option(help="On word embeddings, regions and output.")] = (
        0.3,
        0.3,
        0.5,
    ),
    tied: Annotated[
        bool, typer.Option("--tied", help="Of attention-gru: one matrix for reading and for choosing words.")
    ] = False,
    learned_state: Annotated[
        bool, typer.Option("--learned-state", help="Of attention-gru: start from a trained state, not zeros.")
    ] = False,
    image_as: Annotated[
        Literal["input", "state"] | None,
        typer.Option(
            help="Of show-and-tell: the LSTM reads the picture first, or starts from it. [dim]Default: input[/dim]"
        ),
    ] = None,
    doubly_stochastic: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Of show-attend-tell: how much all regions shall be looked at. [dim]Default: 1.0[/dim]"
        ),
    ] = None,
    views: Annotated[int, typer.Option(min=1, help="Augmented views of each training picture.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all captions, at most.")] = 12,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a lower dev loss before training stops.")] = 2,
    batch_size: Annotated[int, typer.Option(min=1, help="Captions a step.")] = 256,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Adam's rate at the start.")] = 1e-3,
    final_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The rate falls along a cosine to this share of itself.")
    ] = 0.1,
    label_smoothing: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="This share of the target is spread over all words.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is random.")] = 1,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same losses from the same seed, at the price of speed.")
    ] = False,
) -> None:
    """Train a captioner on a frozen backbone, and score it on the dev pictures."""
    need_export()
    from batchcap.console_progress import Steps
    from batchcap_export.train import TrainOptions
    from batchcap_export.train import train as train_captioner

    options = TrainOptions(
        images=images,
        captions=captions,
        train_split=train_split,
        dev_split=dev_split,
        architecture=architecture,
        backbone=backbone,
        weights=weights,
        size=size,
        min_count=min_count,
        max_length=max_length,
        units=units,
        dropout=dropout,
        tied=tied,
        learned_state=learned_state,
        image_as=image_as,
        doubly_stochastic=doubly_stochastic,
        views=views,
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        final_rate=final_rate,
        label_smoothing=label_smoothing,
        seed=seed,
        deterministic=deterministic,
    )
    with Steps() as steps:
        scores = train_captioner(options, output, steps)
    bleu = "/".join(f"{value:.3f}" for value in scores.bleu)
    typer.echo(f"{output}: BLEU-1..4 {bleu}, CIDEr {scores.cider:.3f} ({scores.signature})")
    typer.echo(f"Next: batchcap export {output} -o BUNDLE")


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
    vocabulary: cli_origin.Vocabulary = None,
    decoder: cli_origin.Decoder = None,
    map_: cli_origin.Map = None,
    size: cli_origin.Size = None,
    scale: cli_origin.Scale = None,
    resize: cli_origin.Resize = None,
    start: cli_origin.Start = None,
    end: cli_origin.End = None,
    unknown: cli_origin.Unknown = None,
    padding: cli_origin.Padding = None,
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
) -> None:
    """Turn a captioner into a bundle, proven to say the same words. If it does not, no bundle remains."""
    need_export()
    from batchcap.console import say
    from batchcap_export.bundling import BundleOptions, export_run, export_source
    from batchcap_export.importers import ImportOptions, take_only
    from batchcap_export.precision import Precisions

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
    if (Path(source) / "recipe.json").is_file():
        take_only(source, how)
        parity = export_run(Path(source), output, options, images, score, also_score or [], say, precisions=precisions)
    else:
        if also_score:
            raise OptionError("--also-score goes with a run folder of batchcap train.", "Leave it out.")
        parity = export_source(source, how, output, options, images, say, precisions=precisions)
    typer.echo(f"{output}: {parity.summary()}")
    typer.echo(f"Try it: batchcap run PHOTOS -o captions.jsonl --model {output}")
