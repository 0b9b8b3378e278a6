"""The recipe in a run folder: what made it, and what a second call is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from batchcap.errors import TrainingError
from batchcap_export.data.caption_files import read_captions
from batchcap_export.data.splits import CaptionedImages, read_split
from batchcap_export.options.training import TrainOptions
from batchcap_export.system.replacing import write_json


@dataclass(frozen=True, slots=True)
class Recipe:
    """The content of ``recipe.json``: enough to build the networks again."""

    options: dict[str, Any]
    data: dict[str, str]
    """Digests of the training data: image names with their captions, and the backbone's weights."""
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


def is_run(source: str) -> bool:
    """Whether it is a run folder, of `train` or of `distill`."""
    return (Path(source) / "recipe.json").is_file()


def dev_images(trained: TrainOptions) -> CaptionedImages:
    """The dev images of a run, with their captions as they are now."""
    return read_split(trained.images, read_captions(trained.captions), trained.dev_split)


def claim(path: Path, recipe: Mapping[str, Any]) -> None:
    """Write the recipe of a run folder to ``path``, or compare it with the one that is there: see `compare`."""
    if compare(path, recipe):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, recipe)


def compare(path: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether ``path`` holds a recipe, which must be this one.

    Raises:
        TrainingError: the folder belongs to another recipe (every difference is named), or its recipe is damaged.
    """
    if not path.exists():
        return False
    now = msgspec.json.decode(msgspec.json.encode(recipe, enc_hook=str))
    try:
        before = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise TrainingError(
            f"{path}: is damaged: {error}.", "Whose files lie beside it is not known: use a new run folder."
        ) from None
    changed = [
        f"{name}: {before.get(group, {}).get(name)} there, {value} here"
        for group, values in now.items()
        for name, value in values.items()
        if before.get(group, {}).get(name) != value
    ]
    if changed:
        raise TrainingError(
            f"{path.parent}: this run folder has another recipe ({', '.join(changed)}).", "Use a new one."
        )
    return True
