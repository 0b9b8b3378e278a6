"""The commands `distill` and `train`. What is behind them is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from batchcap.cli import shared
from batchcap.cli.frameworks import need_export, tensorflow_loaded


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
    verbose: shared.Verbose = 0,
) -> None:
    """Train the `small` backbone to give the features of a teacher network."""
    need_export()
    from batchcap.console.progress import Steps
    from batchcap.console.terminal import say
    from batchcap_export.exporting.checks import check_distilling
    from batchcap_export.options.training import DistillOptions, Pictures

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
    check_distilling(teacher, pictures, output, options)
    with tensorflow_loaded(verbose, f"Stopped: the same command goes on with what is done in {output}."):
        from batchcap_export.training.distill import distill_folders

        with Steps() as steps:
            weights = distill_folders(teacher, layer, pictures, output, options, steps, say)
    typer.echo(f"{weights}: the distilled backbone. Next: batchcap train --backbone small --weights {weights} ...")


def train(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of the images.")],
    captions: Annotated[
        Path,
        typer.Option(
            help="Captions: lines of NAME.jpg#0<TAB>caption, as in Flickr8k.token.txt, or CSV with the columns image "
            "and caption."
        ),
    ],
    train_split: Annotated[Path, typer.Option(help="Names of the images to learn from, one a line.")],
    dev_split: Annotated[Path, typer.Option(help="Names of the images for early stopping and the scores.")],
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
        str | None,
        typer.Option(
            help="The backbone's weights: a file, such as batchcap distill makes; imagenet (Keras downloads them); or "
            "random, to try things out. One of them is needed: the backbone does not learn."
        ),
    ] = None,
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
    verbose: shared.Verbose = 0,
) -> None:
    """Train a captioner on a frozen backbone, and score it on the dev images."""
    need_export()
    from batchcap.console.progress import Steps
    from batchcap.console.terminal import say
    from batchcap_export.exporting.checks import check_training
    from batchcap_export.options.training import TrainOptions

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
    check_training(options, output)
    if weights == "random":
        say("warning: --weights random: the backbone sees next to nothing, and no caption will fit its image")
    with tensorflow_loaded(verbose, f"Stopped: the same command goes on with what is done in {output}."):
        from batchcap_export.training.train import train as train_captioner

        with Steps() as steps:
            scores = train_captioner(options, output, steps, say)
    bleu = "/".join(f"{value:.3f}" for value in scores.bleu)
    typer.echo(f"{output}: BLEU-1..4 {bleu}, CIDEr {scores.cider:.3f} ({scores.signature})")
    typer.echo(f"Next: batchcap export {output} -o BUNDLE")
