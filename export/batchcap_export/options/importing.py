"""The options of `export` and `verify --origin` about a saved model: what the model's files do not say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from batchcap.images.preprocess import ResizeMethod
from batchcap.options.field import check_ranges
from batchcap_export.options.setting import setting

Scale = Literal["0..255", "0..1", "-1..1", "caffe", "torch"]
_SAVED = "A model saved elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What a saved model does not say of itself; None: it was not given."""

    vocabulary: Annotated[
        Path | None,
        setting(
            "The words of the model in the order of their ids: a text file with one a line (im2txt: word_counts.txt), "
            "JSON, or a .keras file with TextVectorization.",
            panel=_SAVED,
        ),
    ] = None
    decoder: Annotated[
        Path | None, setting("Where SOURCE is a saved encoder: the saved single-step decoder.", panel=_SAVED)
    ] = None
    map: Annotated[
        tuple[str, ...] | None,
        setting(
            "What a tensor is, where its name and shape do not tell: image, word, logits, attention, state.NAME, "
            "memory.NAME or unused. Repeatable.",
            metavar="TENSOR=ROLE",
            panel=_SAVED,
        ),
    ] = None
    size: Annotated[
        int | None,
        setting("Rows and columns of the encoder's input.", low=1, unset="those of the saved model", panel=_SAVED),
    ] = None
    scale: Annotated[
        Scale | None,
        setting(
            "The range of the pixels that the encoder was trained on. caffe and torch are those of keras.applications.",
            unset="0..255 where the encoder begins with a scaling of its own; else it must be given",
            panel=_SAVED,
        ),
    ] = None
    resize: Annotated[
        ResizeMethod | None,
        setting("How the images were resized for training.", unset="bilinear, as tf.image.resize", panel=_SAVED),
    ] = None
    start: Annotated[
        str | None,
        setting("The token before the first word.", unset="<start>, for im2txt <S>", panel=_SAVED),
    ] = None
    end: Annotated[
        str | None, setting("The token after the last word.", unset="<end>, for im2txt </S>", panel=_SAVED)
    ] = None
    unknown: Annotated[
        str | None,
        setting("The token for words that the vocabulary lacks.", unset="<unk>, [UNK] or <UNK>", panel=_SAVED),
    ] = None
    padding: Annotated[str | None, setting("The token that fills short captions.", unset="<pad>", panel=_SAVED)] = None

    def __post_init__(self) -> None:
        check_ranges(self)
