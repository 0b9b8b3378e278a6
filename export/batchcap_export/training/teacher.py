"""The teacher of a distillation: its region features, projected on their first principal components."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.errors import TrainingError
from batchcap_export.data import images
from batchcap_export.data.digests import file_digest
from batchcap_export.data.views import WHOLE
from batchcap_export.system.replacing import replace
from batchcap_export.training.backbones import SMALL_FEATURES, SMALL_GRID

_PCA_IMAGES = 3000
TEACHER_BATCH = 64


@dataclass(frozen=True, slots=True)
class Teacher:
    """A network whose features a student learns to give."""

    model: keras.Model
    """float32 [B, side, side, 3] in -1..1 -> region features [B, 7, 7, F]."""
    label: str
    """Identifies it in the recipe: file name, digest and layer."""

    @property
    def side(self) -> int:
        return int(self.model.input_shape[1])


def teacher_features(path: Path, layer: str) -> Teacher:
    """The network of a .keras file, cut at ``layer``.

    Raises:
        TrainingError: no such file or layer, or its map is not 7x7.
    """
    if not path.is_file():
        raise TrainingError(f"{path}: no such teacher network.", "Give a .keras file.")
    try:
        whole = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0]
        raise TrainingError(f"{path}: is no network that Keras can load: {reason}", "Give a .keras file.") from error
    try:
        output = whole.get_layer(layer).output
    except ValueError:
        names = ", ".join(x.name for x in whole.layers[-5:])
        raise TrainingError(f"{path}: no layer named {layer!r}.", f"The last layers are {names}.") from None
    if tuple(output.shape[1:3]) != SMALL_GRID:
        raise TrainingError(
            f"{path}: layer {layer!r} gives a map of {output.shape[1:3]}, not {SMALL_GRID}.", "Name another."
        )
    return Teacher(keras.Model(whole.input, output), f"{path.name} {file_digest(path)}, {layer}")


def principal_components(
    forward: Callable[[Any], Any], paths: Sequence[Path], side: int, run: Path, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Mean [F], the first components [F, 256] and their variances [256] of the teacher's features over a sample."""
    file = run / "pca.npz"
    if file.exists():
        try:
            with file.open("rb") as data, np.load(data) as saved:
                return saved["mean"], saved["components"], saved["variance"]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            pass  # torn: made again
    sample = np.random.default_rng(seed).permutation(len(paths))[:_PCA_IMAGES]
    total: Any = 0.0
    square: Any = 0.0
    count = 0
    for start in range(0, len(sample), TEACHER_BATCH):
        batch = np.stack(
            [WHOLE.render(images.read_image(paths[i]), side, side) for i in sample[start : start + TEACHER_BATCH]]
        )
        rows = np.asarray(forward(_teacher_scale(batch))).astype(np.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        total, square, count = total + rows.sum(0), square + rows.T @ rows, count + len(rows)
    mean = total / count
    values, vectors = np.linalg.eigh(square / count - np.outer(mean, mean))
    order = np.argsort(values)[::-1][:SMALL_FEATURES]
    out = mean.astype(np.float32), vectors[:, order].astype(np.float32), values[order].astype(np.float32)
    replace(file, lambda beside: np.savez(beside, mean=out[0], components=out[1], variance=out[2]))
    return out


def _teacher_scale(batch: NDArray[np.uint8]) -> Any:
    return tf.cast(batch, tf.float32) / 127.5 - 1.0


def projection(
    forward: Callable[[Any], Any], mean: Any, components: Any
) -> Callable[[NDArray[np.uint8]], NDArray[np.float16]]:
    matrix, offset = tf.constant(components), tf.constant(mean @ components)

    def project(batch: NDArray[np.uint8]) -> NDArray[np.float16]:
        return np.asarray(tf.cast(forward(_teacher_scale(batch)) @ matrix - offset, tf.float16))

    return project
