"""The options of `train` and `distill`. Nothing here loads TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from batchcap.errors import OptionError
from batchcap.options.field import check_ranges
from batchcap_export.options.setting import setting

Architecture = Literal["attention-gru", "show-and-tell", "show-attend-tell"]
OWN_OPTIONS: dict[str, tuple[str, ...]] = {
    "attention-gru": ("tied", "learned_state"),
    "show-and-tell": ("image_as",),
    "show-attend-tell": ("doubly_stochastic",),
}
"""The architectures by the names that users type, and the options of training that only some of them have."""


_DATA = "Data"
_NETWORK = "The network"
_TRAINING = "Training"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Everything that decides what a trained captioner becomes."""

    images: Annotated[Path, setting("Folder of the images.", argument=True, metavar="IMAGES")]
    captions: Annotated[
        Path,
        setting(
            "Captions: lines of NAME.jpg#0<TAB>caption, as in Flickr8k.token.txt, or CSV with the columns image and "
            "caption."
        ),
    ]
    """See `caption_files.FORMS`."""
    train_split: Annotated[Path, setting("Names of the images to learn from, one a line.")]
    dev_split: Annotated[Path, setting("Names of the images for early stopping and the scores.")]
    architecture: Annotated[Architecture, setting("The decoder.", panel=_NETWORK)] = "attention-gru"
    backbone: Annotated[
        str,
        setting("small, or a network of keras.applications by name, such as InceptionResNetV2.", panel=_NETWORK),
    ] = "small"
    weights: Annotated[
        str | None,
        setting(
            "The backbone's weights: a file, such as batchcap distill makes; imagenet (Keras downloads them); or "
            "random, to try things out. One of them is needed: the backbone does not learn."
        ),
    ] = None
    """`train` refuses None. Run folders that are older say ``none`` for ``random``."""
    size: Annotated[
        int | None, setting("Rows and columns of the input.", low=32, unset="the backbone's", panel=_NETWORK)
    ] = None
    min_count: Annotated[int, setting("A word must occur this often to be in the vocabulary.", low=1, panel=_DATA)] = 5
    max_length: Annotated[int, setting("Most words of a caption. Longer ones are cut.", low=1, panel=_DATA)] = 20
    units: Annotated[int, setting("Width of embedding, recurrent layer and attention.", low=1, panel=_NETWORK)] = 512
    dropout: Annotated[
        tuple[float, float, float], setting("Dropout of word embeddings, regions and output.", panel=_NETWORK)
    ] = (0.3, 0.3, 0.5)
    tied: Annotated[bool, setting("attention-gru: one matrix for word embeddings and output.", panel=_NETWORK)] = False
    learned_state: Annotated[bool, setting("attention-gru: start from a trained state, not zeros.", panel=_NETWORK)] = (
        False
    )
    image_as: Annotated[
        Literal["input", "state"] | None,
        setting("show-and-tell: the LSTM reads the image first, or starts from it.", unset="input", panel=_NETWORK),
    ] = None
    """None, here and in the next, is the architecture's own choice."""
    doubly_stochastic: Annotated[
        float | None,
        setting(
            "show-attend-tell: weight of the loss that asks for attention to all regions over a caption.",
            low=0.0,
            unset="1.0",
            panel=_NETWORK,
        ),
    ] = None
    views: Annotated[int, setting("Augmented views of each training image.", low=1, panel=_DATA)] = 1
    """The whole image, then crops of at least 0.6 of its area, half of them mirrored."""
    epochs: Annotated[int, setting("Passes over all captions, at most.", low=1, panel=_TRAINING)] = 12
    patience: Annotated[
        int, setting("Epochs without a lower dev loss before training stops.", low=1, panel=_TRAINING)
    ] = 2
    """The best weights are kept."""
    batch_size: Annotated[int, setting("Captions a step.", low=1, panel=_TRAINING)] = 256
    learning_rate: Annotated[float, setting("Adam's rate at the start.", low=0.0, panel=_TRAINING)] = 1e-3
    final_rate: Annotated[
        float,
        setting("The rate falls along a cosine to this share of itself.", low=0.0, high=1.0, panel=_TRAINING),
    ] = 0.1
    """Reached in the last epoch; 1 keeps the rate constant."""
    label_smoothing: Annotated[
        float, setting("This share of the target is spread over all words.", low=0.0, high=0.9, panel=_TRAINING)
    ] = 0.0
    """In the dev loss too, which stops the training."""
    seed: Annotated[int, setting("Seed of everything that is random.", low=0, panel=_TRAINING)] = 1
    deterministic: Annotated[bool, setting("The same losses from the same seed. Slower.", panel=_TRAINING)] = False
    beam_size: int = 3
    """For the dev scores."""
    length_penalty: float = 0.7
    """For the dev scores."""

    def __post_init__(self) -> None:
        if self.architecture not in OWN_OPTIONS:
            raise OptionError(f"--architecture {self.architecture}: not known.", f"Known: {', '.join(OWN_OPTIONS)}.")
        for name in sorted({name for names in OWN_OPTIONS.values() for name in names} - {*self.own_options()}):
            if getattr(self, name) not in (None, False):
                raise OptionError(
                    f"--{name.replace('_', '-')}: {self.architecture} does not have this option.", "Leave it out."
                )
        if not all(0 <= rate < 1 for rate in (*self.dropout, self.label_smoothing)):
            raise OptionError("--dropout and --label-smoothing must be from 0 to below 1.")
        check_ranges(self)

    def own_options(self) -> dict[str, Any]:
        """What was chosen of the options that only this architecture has."""
        chosen = {name: getattr(self, name) for name in OWN_OPTIONS[self.architecture]}
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True, slots=True)
class DistillOptions:
    """Everything that decides what a distilled backbone becomes."""

    views: Annotated[int, setting("Augmented views of each image of the first folder.", low=1, panel=_DATA)] = 8
    """They are made once, and the same in every epoch."""
    extra_views: Annotated[int, setting("Views of each image of the other folders.", low=1, panel=_DATA)] = 3
    epochs: Annotated[int, setting("Passes over all views.", low=1, panel=_TRAINING)] = 7
    batch_size: Annotated[int, setting("Views a step.", low=1, panel=_TRAINING)] = 128
    learning_rate: Annotated[float, setting("AdamW's highest rate.", low=0.0, panel=_TRAINING)] = 2e-3
    """It warms up over one twentieth of all steps and falls along a cosine to nothing."""
    weight_decay: Annotated[float, setting("AdamW's weight decay, on all weights.", low=0.0, panel=_TRAINING)] = 0.02
    whitening: Annotated[
        float,
        setting("0: plain squared error. 1: every component counts the same.", low=0.0, high=1.0, panel=_TRAINING),
    ] = 0.5
    """A component of variance v weighs v ** -whitening: 0 is the raw squared error, 1 the whitened one."""
    seed: Annotated[int, setting("Seed of everything that is random.", low=0, panel=_TRAINING)] = 1
    precision: Annotated[
        Literal["mixed_bfloat16", "float32"],
        setting("Arithmetic while training; weights stay float32.", panel=_TRAINING),
    ] = "mixed_bfloat16"
    """Keras dtype policy."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class ImageFolders:
    """What to distil from."""

    folders: Annotated[
        tuple[Path, ...],
        setting("Folders of images to learn from. They need no captions.", argument=True, metavar="IMAGES"),
    ]
    """The first one gets ``DistillOptions.views`` views an image, the others ``extra_views``."""
    names: Annotated[
        tuple[Path, ...],
        setting(
            "Take from the first folder only the images that these files name, one a line. Repeatable.", unset="all"
        ),
    ]
    held_out: Annotated[
        Path,
        setting("Folder of images that are only measured. They are never learnt from, also where it lies in IMAGES."),
    ]
    held_out_names: Annotated[
        Path | None, setting("Take from --held-out only the images that this file names.", unset="all")
    ]
