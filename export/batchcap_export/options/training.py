"""What `train` and `distill` are told, and what a run folder says of itself. Nothing here loads TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from batchcap.errors import OptionError, TrainingError

OWN_OPTIONS: dict[str, tuple[str, ...]] = {
    "attention-gru": ("tied", "learned_state"),
    "show-and-tell": ("image_as",),
    "show-attend-tell": ("doubly_stochastic",),
}
"""The architectures by the names that users type, and the options of training that only some of them have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Everything that decides what a trained captioner becomes."""

    images: Path
    """Folder of the images."""
    captions: Path
    """File of captions: see `datasets.FORMS`."""
    train_split: Path
    """Names of the images to learn from."""
    dev_split: Path
    """Names of the images that stop the training and give the scores."""
    architecture: str = "attention-gru"
    backbone: str = "small"
    """``small``, or a network of keras.applications by name."""
    weights: str | None = None
    """The backbone's weights: a file, ``imagenet`` or ``random``; `train` refuses None. Run folders that are older say
    ``none`` for ``random``."""
    size: int | None = None
    """Rows and columns of the input; None is the backbone's own."""
    min_count: int = 5
    """A word must occur this often to be learnt."""
    max_length: int = 20
    """Words of a caption; longer ones are cut."""
    units: int = 512
    dropout: tuple[float, float, float] = (0.3, 0.3, 0.5)
    """On word embeddings, regions and output."""
    tied: bool = False
    """One matrix for reading and for choosing words."""
    learned_state: bool = False
    """The decoder starts from a trained vector instead of zeros."""
    image_as: Literal["input", "state"] | None = None
    """How the picture enters show-and-tell's LSTM; None, here and in the next, is the architecture's own choice."""
    doubly_stochastic: float | None = None
    """Weight of show-attend-tell's wish to look at every region equally over the whole caption."""
    views: int = 1
    """Views of each training picture: the whole one, then crops of at least 0.6 of its area, half of them mirrored."""
    epochs: int = 12
    patience: int = 2
    """Epochs without a lower dev loss before training stops; the best weights are kept."""
    batch_size: int = 256
    """Captions a step."""
    learning_rate: float = 1e-3
    final_rate: float = 0.1
    """Adam's rate falls along a cosine to this share of ``learning_rate`` in the last epoch; 1 keeps it constant."""
    label_smoothing: float = 0.0
    """This share of the target is spread over the whole vocabulary; in the dev loss too, which stops the training."""
    seed: int = 1
    deterministic: bool = False
    """The same losses from the same seed, at the price of speed."""
    beam_size: int = 3
    """For the dev scores."""
    length_penalty: float = 0.7
    """For the dev scores."""

    def __post_init__(self) -> None:
        if self.architecture not in OWN_OPTIONS:
            raise OptionError(f"--architecture {self.architecture}: not known.", f"Known: {', '.join(OWN_OPTIONS)}.")
        for name in sorted({name for names in OWN_OPTIONS.values() for name in names} - {*self._own()}):
            if getattr(self, name) not in (None, False):
                raise OptionError(
                    f"--{name.replace('_', '-')}: {self.architecture} has nothing of the kind.", "Leave it out."
                )
        for name in ("min_count", "max_length", "units", "views", "epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise OptionError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1.")
        if not all(0 <= rate < 1 for rate in (*self.dropout, self.label_smoothing)):
            raise OptionError("--dropout and --label-smoothing must be from 0 to below 1.")
        if self.doubly_stochastic is not None and self.doubly_stochastic < 0:
            raise OptionError(f"--doubly-stochastic {self.doubly_stochastic}: must be at least 0.")

    def _own(self) -> dict[str, Any]:
        """What was chosen of the options that only this architecture has."""
        chosen = {name: getattr(self, name) for name in OWN_OPTIONS[self.architecture]}
        return {name: value for name, value in chosen.items() if value is not None}

    def decoder(self, vocabulary_size: int) -> Any:
        """The decoder that is meant, without weights."""
        from batchcap_export.architectures.table import ARCHITECTURES

        make = ARCHITECTURES[self.architecture]
        return make(vocabulary_size, self.units, tuple(self.dropout), **self._own(), name="decoder")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run folder says of itself: enough to build its networks again."""

    options: dict[str, Any]
    data: dict[str, str]
    """Digests of what was learnt from: pictures' names with their captions, the backbone's weights."""
    tools: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)


def read_recipe(run: Path) -> tuple[TrainOptions, Recipe]:
    """The recipe of a run folder that `train` has finished.

    Raises:
        TrainingError: the folder is no finished run, or its recipe is damaged.
    """
    file = run / "recipe.json"
    if not file.is_file():
        raise TrainingError(f"{run}: no run folder: recipe.json is missing.", "Make one: batchcap train --help.")
    if not (run / "decoder.weights.h5").is_file():
        raise TrainingError(f"{run}: this training has not finished.", "Give the same batchcap train command again.")
    try:
        recipe = msgspec.json.decode(file.read_bytes(), type=Recipe)
        options = msgspec.convert(recipe.options, TrainOptions, dec_hook=lambda _, value: Path(value))
    except msgspec.MsgspecError as error:
        raise TrainingError(
            f"{file}: is damaged, or not of batchcap train: {error}.",
            "Restore the file, or train again in a new run folder.",
        ) from None
    return options, recipe


@dataclass(frozen=True, slots=True)
class DistillOptions:
    """Everything that decides what a distilled backbone becomes."""

    views: int = 8
    """Fixed augmented views of each picture of the main folders."""
    extra_views: int = 3
    """Views of each picture of the extra folders."""
    epochs: int = 7
    batch_size: int = 128
    learning_rate: float = 2e-3
    """Peak of AdamW's rate; it warms up over one twentieth of all steps and falls along a cosine to nothing."""
    weight_decay: float = 0.02
    whitening: float = 0.5
    """A component of variance v weighs v ** -whitening: 0 is the raw squared error, 1 the whitened one."""
    seed: int = 1
    precision: str = "mixed_bfloat16"
    """Keras dtype policy while training; weights stay float32."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """What to distil from, as the command line gives it."""

    folders: Sequence[Path]
    """The first one gets ``DistillOptions.views`` views a picture, the others ``extra_views``."""
    names: Sequence[Path]
    """Files of picture names: only these are taken from the first folder. Without a file: all."""
    held_out: Path
    """Folder of the pictures that are only measured."""
    held_out_names: Path | None
    """File of picture names: only these are taken from ``held_out``."""
