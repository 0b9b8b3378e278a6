"""Distil a student backbone from a teacher network: the same picture in, the teacher's region features as the target.

The teacher's features are projected on their first principal components, so the student learns a compact space; the
squared error is weighted between raw (big components count) and whitened (all components count alike).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.errors import TrainingError
from batchcap_export.data import images
from batchcap_export.exporting.checks import check_distilling
from batchcap_export.model.captioner import Say
from batchcap_export.options.training import DistillOptions, Pictures
from batchcap_export.training.backbones import SMALL_FEATURES, SMALL_GRID, SMALL_SIZE, small_backbone
from batchcap_export.training.fitting import Report, fit_resumable
from batchcap_export.training.runs import (
    claim,
    digest,
    file_digest,
    note_done,
    open_cache,
    read_done,
    replace,
)

_PCA_PICTURES = 3000
_TEACHER_BATCH = 64


@dataclass(frozen=True, slots=True)
class _Cache:
    """The rendered views and their targets on disk, made once."""

    pictures: NDArray[np.uint8]
    targets: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A network to imitate."""

    model: keras.Model
    """float32 [B, side, side, 3] in -1..1 -> region features [B, 7, 7, F]."""
    label: str
    """What tells it from another teacher: file, digest and layer."""

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


def distill(
    teacher: Teacher,
    main: Sequence[Path],
    extra: Sequence[Path],
    held_out: Sequence[Path],
    run: Path,
    options: DistillOptions,
    report: Report,
    *,
    say: Say = lambda _: None,
) -> keras.Model:
    """Train a `small_backbone` to give the teacher's features; a second call goes on where the first one stopped.

    Args:
        teacher: from `teacher_features`.
        main, extra: pictures that get ``decoding.views`` and ``decoding.extra_views`` views.
        held_out: pictures that are only measured, one whole view each.
        run: folder for the cache, the state of training, ``backbone.weights.h5`` and ``history.json``.
        report: hears how far the teacher and the epochs are.
        say: hears what else a person should know.

    Returns:
        The trained backbone in float32.
    """
    data = {
        name: digest(f"{p.parent.name}/{p.name}" for p in paths)
        for name, paths in (("main", main), ("extra", extra), ("held_out", held_out))
    }
    claim(run / "recipe.json", {"options": asdict(options), "data": data | {"teacher": teacher.label}})
    keras.utils.set_random_seed(options.seed)
    items = [(p, v) for i, p in enumerate(main) for v in images.views(i, options.views, options.seed)]
    items += [
        (p, v) for i, p in enumerate(extra) for v in images.views(len(main) + i, options.extra_views, options.seed)
    ]
    forward = tf.function(lambda x: teacher.model(x, training=False))
    mean, components, variance = _principal_components(forward, main, teacher.side, run, options.seed)
    project = _projection(forward, mean, components)
    train = _cache(project, items, teacher.side, run, "train", report)
    held = _cache(project, [(p, images.WHOLE) for p in held_out], teacher.side, run, "held_out", report)
    student = _train(train, held, variance, run, options, report, say)
    replace(run / "backbone.weights.h5", student.save_weights)
    return student


def distill_folders(
    teacher: Path,
    layer: str,
    pictures: Pictures,
    run: Path,
    options: DistillOptions,
    report: Report,
    say: Say = lambda _: None,
) -> Path:
    """`distill` from folders and split files; pictures that are held out are never learnt.

    Returns:
        The file of the backbone's weights.

    Raises:
        DataError: folders or names that do not fit.
        TrainingError: no such teacher, or a run folder of another recipe.
    """
    files = check_distilling(teacher, pictures, run, options)
    network = teacher_features(teacher, layer)
    distill(network, files.main, files.extra, files.held_out, run, options, report, say=say)
    return run / "backbone.weights.h5"


def _principal_components(
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
    sample = np.random.default_rng(seed).permutation(len(paths))[:_PCA_PICTURES]
    total: Any = 0.0
    square: Any = 0.0
    count = 0
    for start in range(0, len(sample), _TEACHER_BATCH):
        batch = np.stack(
            [
                images.WHOLE.render(images.read_image(paths[i]), side, side)
                for i in sample[start : start + _TEACHER_BATCH]
            ]
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


def _projection(
    forward: Callable[[Any], Any], mean: Any, components: Any
) -> Callable[[NDArray[np.uint8]], NDArray[np.float16]]:
    matrix, offset = tf.constant(components), tf.constant(mean @ components)

    def project(batch: NDArray[np.uint8]) -> NDArray[np.float16]:
        return np.asarray(tf.cast(forward(_teacher_scale(batch)) @ matrix - offset, tf.float16))

    return project


def _cache(
    project: Callable[[NDArray[np.uint8]], NDArray[np.float16]],
    items: Sequence[tuple[Path, images.View]],
    teacher_side: int,
    run: Path,
    name: str,
    report: Report,
) -> _Cache:
    """Render every view for the student and run the teacher over it, once; goes on at the first batch not on disk."""
    files = run / f"{name}-pictures.npy", run / f"{name}-targets.npy"
    shapes = (len(items), SMALL_SIZE, SMALL_SIZE, 3), (len(items), *SMALL_GRID, SMALL_FEATURES)
    progress = run / f"{name}-done.txt"
    noted = read_done(progress, len(items))
    opened = [open_cache(f, s, t, noted) for f, s, t in zip(files, shapes, (np.uint8, np.float16), strict=True)]
    (pictures, _), (targets, _) = opened
    done = min(count for _, count in opened)

    def render(item: tuple[Path, images.View]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image = images.read_image(item[0])
        return item[1].render(image, SMALL_SIZE, SMALL_SIZE), item[1].render(image, teacher_side, teacher_side)

    rendered = images.map_in_threads(render, items[done:])
    for start in range(done, len(items), _TEACHER_BATCH):
        pairs = [next(rendered) for _ in range(min(_TEACHER_BATCH, len(items) - start))]
        stop = start + len(pairs)
        pictures[start:stop] = np.stack([p[0] for p in pairs])
        targets[start:stop] = project(np.stack([p[1] for p in pairs]))
        if start // _TEACHER_BATCH % 50 == 0:
            pictures.flush()
            targets.flush()
            note_done(progress, stop)
        report(f"teacher's features, {name}", stop, len(items))
    pictures.flush()
    targets.flush()
    note_done(progress, len(items))
    return _Cache(pictures, targets)


def _train(
    train: _Cache,
    held: _Cache,
    variance: NDArray[np.float32],
    run: Path,
    options: DistillOptions,
    report: Report,
    say: Say,
) -> keras.Model:
    steps = len(train.pictures) // options.batch_size
    total = steps * options.epochs
    warmup = total // 20
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, total - warmup, warmup_target=options.learning_rate, warmup_steps=warmup
    )
    keras.config.set_dtype_policy(options.precision)
    try:
        student = small_backbone()
    finally:
        keras.config.set_dtype_policy("float32")
    weight = variance**-options.whitening
    scale = tf.constant(weight / (weight * variance).mean(), tf.float32)

    def loss(target: Any, output: Any) -> Any:
        return tf.reduce_mean(tf.square(tf.cast(target, tf.float32) - output) * scale, axis=-1)

    optimizer = keras.optimizers.AdamW(schedule, weight_decay=options.weight_decay)
    # Scales and offsets of one value a channel have nothing to gain from decay (Goyal et al. 2017).
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    student.compile(optimizer=optimizer, loss=loss, jit_compile=False)
    fit_resumable(
        student,
        lambda epoch: _Batches(train, options, epoch),
        _whole(held, options.batch_size),
        options.epochs,
        options.seed,
        run,
        report=report,
        say=say,
    )
    out = small_backbone()
    out.set_weights(student.get_weights())
    return out


class _Batches(keras.utils.PyDataset):
    """Shuffled batches of an epoch."""

    def __init__(self, cache: _Cache, options: DistillOptions, epoch: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self._cache, self._size = cache, options.batch_size
        self._order = np.random.default_rng([options.seed, epoch]).permutation(len(cache.pictures))

    def __len__(self) -> int:
        return len(self._order) // self._size

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        rows = np.sort(self._order[index * self._size : (index + 1) * self._size])
        return self._cache.pictures[rows], self._cache.targets[rows]


def _whole(cache: _Cache, batch_size: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((np.asarray(cache.pictures), np.asarray(cache.targets))).batch(batch_size)
