"""Distil a student backbone from a teacher network: the same picture in, the teacher's region features as the target.

The teacher's features are projected on their first principal components, so the student learns a compact space; the
squared error is weighted between raw (big components count) and whitened (all components count alike).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.errors import ExportError
from batchcap_export import images
from batchcap_export.backbones import SMALL_FEATURES, SMALL_GRID, SMALL_SIZE, small_backbone
from batchcap_export.fitting import Report, fit_resumable
from batchcap_export.runs import claim, digest, file_digest, replace

_PCA_PICTURES = 3000
_TEACHER_BATCH = 64


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
        ExportError: no such file or layer, or its map is not 7x7.
    """
    if not path.is_file():
        raise ExportError(f"{path}: no such teacher network.", "Give a .keras file.")
    whole = keras.saving.load_model(path, compile=False)
    try:
        output = whole.get_layer(layer).output
    except ValueError:
        names = ", ".join(x.name for x in whole.layers[-5:])
        raise ExportError(f"{path}: no layer named {layer!r}.", f"The last layers are {names}.") from None
    if tuple(output.shape[1:3]) != SMALL_GRID:
        raise ExportError(
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
) -> keras.Model:
    """Train a `small_backbone` to give the teacher's features; a second call goes on where the first one stopped.

    Args:
        teacher: from `teacher_features`.
        main, extra: pictures that get ``options.views`` and ``options.extra_views`` views.
        held_out: pictures that are only measured, one whole view each.
        run: folder for the cache, the state of training, ``backbone.weights.h5`` and ``history.json``.
        report: hears how far the teacher is.

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
    student = _train(train, held, variance, run, options)
    replace(run / "backbone.weights.h5", student.save_weights)
    return student


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


def distill_folders(
    teacher: Path,
    layer: str,
    pictures: Pictures,
    run: Path,
    options: DistillOptions,
    report: Report,
) -> Path:
    """`distill` from folders and split files; pictures that are held out are never learnt.

    Returns:
        The file of the backbone's weights.
    """
    network = teacher_features(teacher, layer)
    held = _named(pictures.held_out, [pictures.held_out_names] if pictures.held_out_names else [])
    apart = {path.resolve() for path in held}
    main = [p for p in _named(pictures.folders[0], pictures.names) if p.resolve() not in apart]
    extra = [p for folder in pictures.folders[1:] for p in images.find_images(folder) if p.resolve() not in apart]
    if not main:
        raise ExportError(f"{pictures.folders[0]}: every picture here is held out.")
    distill(network, main, extra, held, run, options, report)
    return run / "backbone.weights.h5"


def _named(folder: Path, names: Sequence[Path]) -> list[Path]:
    """The pictures of ``folder`` that the files name, by stem and in their order; all where there is no file."""
    found = images.find_images(folder)
    if not names:
        return found
    for file in names:
        if not file.is_file():
            raise ExportError(f"{file}: no such file of picture names.")
    wanted = [Path(line.strip()).stem for file in names for line in file.read_text(encoding="utf-8").splitlines()]
    by_stem = {path.stem: path for path in found}
    kept = [by_stem[stem] for stem in wanted if stem in by_stem]
    if not kept:
        raise ExportError(f"{folder}: none of the pictures that {', '.join(map(str, names))} name.")
    return kept


def _principal_components(
    forward: Callable[[Any], Any], paths: Sequence[Path], side: int, run: Path, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Mean [F], the first components [F, 256] and their variances [256] of the teacher's features over a sample."""
    file = run / "pca.npz"
    if file.exists():
        with np.load(file) as saved:
            return saved["mean"], saved["components"], saved["variance"]
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
    done = int(progress.read_text()) if progress.exists() and all(f.exists() for f in files) else 0
    mode = "r+" if done else "w+"
    pictures = np.lib.format.open_memmap(files[0], mode, np.uint8, shapes[0])
    targets = np.lib.format.open_memmap(files[1], mode, np.float16, shapes[1])
    if pictures.shape != shapes[0]:
        raise ExportError(f"{run}: the cache was made from other pictures or views.", "Use a new run folder.")

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
            progress.write_text(str(stop))
        report(f"teacher's features, {name}", stop, len(items))
    pictures.flush()
    targets.flush()
    progress.write_text(str(len(items)))
    return _Cache(pictures, targets)


def _train(
    train: _Cache, held: _Cache, variance: NDArray[np.float32], run: Path, options: DistillOptions
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
