"""The commands of the export stage: `distill`, `train` and `export`. What is behind them is imported when they run."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from batchcap.errors import MissingExtraError

Function = TypeVar("Function", bound=Callable[..., Any])

_EXTRA = "pip install 'batchcap[export,eval]'"


class _Variant(Enum):
    """An option that is given several times takes no Literal."""

    FP16 = "fp16"
    INT8 = "int8"


def need_export() -> None:
    """The export stage, or an error that says which extra to install."""
    # TensorFlow tells of its processor flags and of every GPU that is not there; what matters is raised as well.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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
    images: Annotated[list[Path], typer.Argument(help="Folders of pictures to learn from; they need no captions.")],
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
    epochs: Annotated[int, typer.Option(min=1)] = 7,
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 2e-3,
    weight_decay: Annotated[float, typer.Option(min=0.0)] = 0.02,
    whitening: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="0: plain squared error; 1: every component counts alike.")
    ] = 0.5,
    precision: Annotated[
        Literal["mixed_bfloat16", "float32"], typer.Option(help="Arithmetic while training; weights stay float32.")
    ] = "mixed_bfloat16",
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Train the `small` backbone to give the features of a teacher network."""
    need_export()
    from batchcap.console import Steps
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
    images: Annotated[Path, typer.Argument(help="Folder of the pictures.")],
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
        int | None, typer.Option(min=32, help="Rows and columns of the input.  [default: the backbone's]")
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
        typer.Option(help="Of show-and-tell: the LSTM reads the picture first, or starts from it.  [default: input]"),
    ] = None,
    doubly_stochastic: Annotated[
        float | None,
        typer.Option(min=0.0, help="Of show-attend-tell: how much all regions shall be looked at.  [default: 1.0]"),
    ] = None,
    views: Annotated[int, typer.Option(min=1, help="Augmented views of each training picture.")] = 1,
    epochs: Annotated[int, typer.Option(min=1)] = 12,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a lower dev loss before training stops.")] = 2,
    batch_size: Annotated[int, typer.Option(min=1, help="Captions a step.")] = 256,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 1e-3,
    final_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The rate falls along a cosine to this share of itself.")
    ] = 0.1,
    label_smoothing: Annotated[float, typer.Option(min=0.0, max=0.9)] = 0.0,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same losses from the same seed, at the price of speed.")
    ] = False,
) -> None:
    """Train a captioner on a frozen backbone, and score it on the dev pictures."""
    need_export()
    from batchcap.console import Steps
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


# What a saved model does not say of itself; `verify` asks for it too.
OriginVocabulary = Annotated[
    Path | None,
    typer.Option(
        help="Of a saved model: its words by id. Text (one a line), JSON, or a .keras file with TextVectorization."
    ),
]
OriginDecoder = Annotated[Path | None, typer.Option(help="Of a saved encoder: the saved decoder that makes one step.")]
OriginMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="TENSOR=ROLE",
        help="Of a saved model: what a tensor is (image, word, logits, attention, state.NAME, memory.NAME, unused) "
        "where its name and shape do not tell. Repeatable.",
    ),
]
OriginSize = Annotated[
    int | None, typer.Option(min=1, help="Of a saved model: rows and columns of its input.  [default: its own]")
]
OriginScale = Annotated[
    Literal["0..255", "0..1", "-1..1", "caffe", "torch"] | None,
    typer.Option(
        help="Of a saved model: the pixels that it wants. 0..255 where it scales them itself; caffe and torch as "
        "in keras.applications."
    ),
]
OriginResize = Annotated[
    Literal["bilinear", "bilinear-antialias", "bilinear-tf1"] | None,
    typer.Option(help="Of a saved model: how its pictures were resized.  [default: bilinear, as tf.image.resize]"),
]
OriginStart = Annotated[
    str | None, typer.Option(help="Of a saved model: the token before the first word.  [default: <start>]")
]
OriginEnd = Annotated[
    str | None, typer.Option(help="Of a saved model: the token after the last word.  [default: <end>]")
]
OriginUnknown = Annotated[
    str | None, typer.Option(help="Of a saved model: the token for other words.  [default: <unk> or [UNK]]")
]
OriginPadding = Annotated[
    str | None, typer.Option(help="Of a saved model: the token that fills short captions.  [default: <pad>]")
]


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
    name: Annotated[str | None, typer.Option(help="Name of the bundle.  [default: the folder's]")] = None,
    bundle_version: Annotated[str, typer.Option("--bundle-version", help="Version of the bundle.")] = "1",
    store: Annotated[
        Literal["float32", "float16", "int8"],
        typer.Option(help="Round the big weights, for a smaller bundle. Arithmetic stays float32."),
    ] = "float32",
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of at least 64 pictures for the comparison.  [default: the dev pictures of a run]"),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score/--no-score", help="Score the bundle of a run on its dev pictures.")
    ] = True,
    also_score: Annotated[
        list[Path] | None,
        typer.Option(help="Of a run: folders with other copies of some dev pictures, scored too. Repeatable."),
    ] = None,
    beam_size: Annotated[
        int | None, typer.Option(min=1, help="The bundle's default beam.  [default: the model's]")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="The bundle's default length.  [default: the model's]")
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(min=0.0, help="The bundle's default penalty.  [default: the model's]")
    ] = None,
    text: Annotated[
        Literal["plain", "english"] | None,
        typer.Option(
            help="How captions are written. english: 's, n't and punctuation join their words.  [default: the model's]"
        ),
    ] = None,
    vocabulary: OriginVocabulary = None,
    decoder: OriginDecoder = None,
    map_: OriginMap = None,
    size: OriginSize = None,
    scale: OriginScale = None,
    resize: OriginResize = None,
    start: OriginStart = None,
    end: OriginEnd = None,
    unknown: OriginUnknown = None,
    padding: OriginPadding = None,
    precision: Annotated[
        list[_Variant] | None,
        typer.Option(help="More graphs beside float32, for run --precision; judged by their captions. Repeatable."),
    ] = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(help="Of int8: folders of pictures like those to be captioned, at least 64. Repeatable."),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="Captions (as for train) of at least 500 compared pictures: another precision may lose 1% of CIDEr. "
            "[default: those of a run; without any, 3% of the captions may change]"
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Keep a precision that costs too much; it runs only where it is asked for.")
    ] = False,
    data: Annotated[str, typer.Option(help="What the model learnt from, for its card.")] = "",
    terms: Annotated[str, typer.Option(help="Under which terms it may be used, for its card.")] = "",
    min_distinct: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the compared captions that must be different.")
    ] = 0.5,
) -> None:
    """Turn a captioner into a bundle, proven to say the same words. If it does not, no bundle remains."""
    need_export()
    from batchcap.console import say
    from batchcap_export.bundling import BundleOptions, export_run, export_source
    from batchcap_export.importers import ImportOptions
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
    if (Path(source) / "recipe.json").is_file():
        parity = export_run(Path(source), output, options, images, score, also_score or [], say, precisions=precisions)
    else:
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
        parity = export_source(source, how, output, options, images, say, precisions=precisions)
    typer.echo(f"{output}: {parity.summary()}")
    typer.echo(f"Try it: batchcap run PHOTOS -o captions.jsonl --model {output}")
