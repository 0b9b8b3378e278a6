"""Image backbones: an image in, a map of region features out."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import layers

from batchcap.errors import OptionError, TrainingError
from batchcap_export.system.downloads import download_timeout
from batchcap_export.training.backbone_names import SMALL_SIZE, check_small

SMALL_GRID = (7, 7)
SMALL_FEATURES = 256


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network from pixels to region features, and what it wants to be fed."""

    model: keras.Model
    """float32 [B, height, width, 3] in 0..255 -> float32 [B, rows, columns, features]."""
    name: str
    height: int
    width: int
    grid: tuple[int, int]
    """Rows and columns of the feature map."""
    features: int
    """Channels of a region."""


def small_backbone(*, folded: bool = False) -> keras.Model:
    """This project's own network: a plain residual CNN (He et al. 2015, basic blocks), 5.0 M parameters.

    Widths 32-48-96-96-192-192-320-320 at 160x160, its 5x5 map resized to 7x7 and projected to 256 channels: the space
    of the teacher's first principal components (see `batchcap_export.training.distill`).

    Args:
        folded: without batch normalization, for weights that hold it already (see `batchcap_export.convert.rounding`).

    Returns:
        float32 [B, 160, 160, 3] in 0..255 -> float32 [B, 7, 7, 256].
    """
    image = layers.Input((SMALL_SIZE, SMALL_SIZE, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)
    x = _conv_bn(x, 32, strides=2, folded=folded, name="stem1")
    x = _conv_bn(x, 48, strides=2, folded=folded, name="stem2")
    widths = (96, 96, 192, 192, 320, 320)
    for index, channels in enumerate(widths):
        x = _residual(x, channels, strides=2 if index % 2 == 0 else 1, folded=folded, name=f"block{index + 1}")
    x = layers.Resizing(*SMALL_GRID, interpolation="bilinear", name="grid")(x)
    # float32 whatever the training precision: these are the features that everything downstream is built on.
    features = layers.Conv2D(SMALL_FEATURES, 1, dtype="float32", name="features")(x)
    return keras.Model(image, features, name="small")


def _conv_bn(
    x: Any, channels: int, *, name: str, folded: bool, strides: int = 1, size: int = 3, relu: bool = True
) -> Any:
    x = layers.Conv2D(channels, size, strides=strides, padding="same", use_bias=folded, name=f"{name}_conv")(x)
    if not folded:
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _residual(x: Any, channels: int, *, strides: int, folded: bool, name: str) -> Any:
    y = _conv_bn(x, channels, strides=strides, folded=folded, name=f"{name}_1")
    y = _conv_bn(y, channels, folded=folded, name=f"{name}_2", relu=False)
    if strides != 1 or x.shape[-1] != channels:
        x = _conv_bn(x, channels, strides=strides, folded=folded, size=1, name=f"{name}_skip", relu=False)
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_out")(x)


def load_backbone(name: str, weights: str = "random", size: int | None = None) -> Backbone:
    """A backbone by name: ``small`` or any network of keras.applications.

    Args:
        name: ``small``, or a name as keras.applications spells it, such as ``InceptionResNetV2``.
        weights: ``random``, ``imagenet`` (keras.applications downloads them), or a weights file.
        size: rows and columns of the input; None is the network's own (299 for the Inception family, else 224).

    Raises:
        OptionError: no such network, or a size or weights that ``small`` cannot have.
        TrainingError: no such file, weights that do not fit, or that cannot be downloaded.
    """
    check_small(name, weights, size)
    if name == "small":
        model = small_backbone()
    else:
        model = _application(name, "imagenet" if weights == "imagenet" else None, size)
    if weights not in ("random", "imagenet"):
        _load_weights(model, Path(weights))
    rows, columns, features = model.output_shape[1:]
    return Backbone(model, name, *model.input_shape[1:3], (rows, columns), features)


def _application(name: str, weights: str | None, size: int | None) -> keras.Model:
    build = getattr(keras.applications, name, None)
    if build is None or not name[:1].isupper():
        known = ", ".join(n for n in dir(keras.applications) if n[:1].isupper())
        raise OptionError(f"--backbone {name}: no such network.", f"Known: small, {known}.")
    module = sys.modules[build.__module__]
    side = size or (299 if name in ("InceptionV3", "InceptionResNetV2", "Xception") else 224)
    image = layers.Input((side, side, 3), name="image")
    scaled = module.preprocess_input(image)
    try:
        with download_timeout():
            network = build(include_top=False, weights=weights, input_shape=(side, side, 3))
    except Exception as error:  # Keras raises a bare Exception where it cannot download
        raise _explained(error, name, weights, side) from error
    return keras.Model(image, network(scaled), name=name)


def _explained(error: Exception, name: str, weights: str | None, side: int) -> Exception:
    """What building a network of keras.applications failed with, with its cause and the fix."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    if isinstance(error, ValueError) and not reason.startswith("Incomplete"):  # a size that the network cannot have
        return TrainingError(f"--backbone {name} at {side}x{side}: {reason}", "Choose another --size or --backbone.")
    if weights is None:
        return error
    url = re.search(r"https?://\S+?(?=:?\s|$)", reason)
    kept = Path(os.environ.get("KERAS_HOME", "~/.keras")) / "models"
    return TrainingError(
        f"--weights {weights}: those of {name} are not on this machine, and could not be downloaded: {reason}",
        f"Connect this machine to the internet once, or copy {'that' if url else 'the'} file from another "
        f"one into {kept}.",
    )


def _load_weights(model: keras.Model, path: Path) -> None:
    if not path.is_file():
        raise TrainingError(f"--weights {path}: no such file.", "Give imagenet, random, or a .weights.h5 file.")
    try:
        model.load_weights(path)
    except (ValueError, OSError) as error:
        raise TrainingError(
            f"--weights {path}: not the weights of {model.name}: {error}", "Give those of this network."
        ) from error
