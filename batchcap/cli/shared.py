"""Options that commands share: what a saved model does not say of itself, for `export` and `verify`; and -v."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

_SAVED = "A model saved elsewhere"


def _note_verbosity(ctx: typer.Context, verbosity: int) -> int:
    """For `app.GuardedGroup`, which stands outside the command."""
    ctx.find_root().obj = verbosity
    return verbosity


Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        callback=_note_verbosity,
        envvar="BATCHCAP_VERBOSE",
        help="Show what TensorFlow says too; -vv adds tracebacks.",
    ),
]

Vocabulary = Annotated[
    Path | None,
    typer.Option(
        help="Its words by id: text with one a line (of im2txt word_counts.txt), JSON, or a .keras file with "
        "TextVectorization.",
        rich_help_panel=_SAVED,
    ),
]
Decoder = Annotated[
    Path | None, typer.Option(help="Of a saved encoder: the saved decoder of one step.", rich_help_panel=_SAVED)
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="TENSOR=ROLE",
        help="What a tensor is (image, word, logits, attention, state.NAME, memory.NAME, unused) where its name and "
        "shape do not tell. Repeatable.",
        rich_help_panel=_SAVED,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(min=1, help="Rows and columns of its input. [dim]Default: its own[/dim]", rich_help_panel=_SAVED),
]
Scale = Annotated[
    Literal["0..255", "0..1", "-1..1", "caffe", "torch"] | None,
    typer.Option(
        help="The pixels that it wants; caffe and torch as in keras.applications. [dim]Default: 0..255 where it begins "
        "with a scaling of its own; everything else must say[/dim]",
        rich_help_panel=_SAVED,
    ),
]
Resize = Annotated[
    Literal["bilinear", "bilinear-antialias", "bilinear-tf1"] | None,
    typer.Option(
        help="How its pictures were resized. [dim]Default: bilinear, as tf.image.resize[/dim]", rich_help_panel=_SAVED
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        help="The token before the first word. [dim]Default: <start>, of im2txt <S>[/dim]", rich_help_panel=_SAVED
    ),
]
End = Annotated[
    str | None,
    typer.Option(
        help="The token after the last word. [dim]Default: <end>, of im2txt </S>[/dim]", rich_help_panel=_SAVED
    ),
]
Unknown = Annotated[
    str | None,
    typer.Option(help="The token for other words. [dim]Default: <unk>, [UNK] or <UNK>[/dim]", rich_help_panel=_SAVED),
]
Padding = Annotated[
    str | None,
    typer.Option(help="The token that fills short captions. [dim]Default: <pad>[/dim]", rich_help_panel=_SAVED),
]
