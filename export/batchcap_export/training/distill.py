"""Distil a student backbone from a teacher network: the same image in, the teacher's region features as the target.

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

from batchcap.reporting import Report, Say, no_report
from batchcap_export.data import images
from batchcap_export.data.digests import digest
from batchcap_export.data.views import WHOLE, View, make_views
from batchcap_export.options.training import DistillOptions, ImageFolders
from batchcap_export.system.replacing import replace
from batchcap_export.training.backbone_names import SMALL_SIZE
from batchcap_export.training.backbones import SMALL_FEATURES, SMALL_GRID, small_backbone
from batchcap_export.training.caches import Column, cached_arrays
from batchcap_export.training.distill_plan import check_distilling
from batchcap_export.training.fitting import fit_resumable
from batchcap_export.training.recipes import claim
from batchcap_export.training.teacher import Teacher, principal_components, projection, teacher_features


@dataclass(frozen=True, slots=True)
class _Cache:
    """The rendered views and their targets on disk, made once."""

    images: NDArray[np.uint8]
    targets: NDArray[np.float16]


def distill(
    teacher: Teacher,
    main: Sequence[Path],
    extra: Sequence[Path],
    held_out: Sequence[Path],
    run: Path,
    options: DistillOptions,
    report: Report,
    *,
    say: Say = no_report,
) -> keras.Model:
    """Train a `small_backbone` to give the teacher's features; a second call goes on where the first one stopped.

    Args:
        teacher: from `teacher_features`.
        main, extra: images that get ``options.views`` and ``options.extra_views`` views.
        held_out: images that are only measured, one whole view each.
        run: folder for the cache, the state of training, ``backbone.weights.h5`` and ``history.json``.
        report: gets the progress of the teacher and of the epochs.
        say: gets what else a person should know.

    Returns:
        The trained backbone in float32.
    """
    data = {
        name: digest(f"{p.parent.name}/{p.name}" for p in paths)
        for name, paths in (("main", main), ("extra", extra), ("held_out", held_out))
    }
    claim(run / "recipe.json", {"options": asdict(options), "data": data | {"teacher": teacher.label}})
    keras.utils.set_random_seed(options.seed)
    items = [(p, v) for i, p in enumerate(main) for v in make_views(i, options.views, options.seed)]
    items += [(p, v) for i, p in enumerate(extra) for v in make_views(len(main) + i, options.extra_views, options.seed)]
    forward = tf.function(lambda x: teacher.model(x, training=False))
    mean, components, variance = principal_components(forward, main, teacher.side, run, options.seed)
    project = projection(forward, mean, components)
    train = _cache(project, items, teacher.side, run, "train", report)
    held = _cache(project, [(p, WHOLE) for p in held_out], teacher.side, run, "held_out", report)
    student = _train(train, held, variance, run, options, report, say)
    replace(run / "backbone.weights.h5", student.save_weights)
    return student


def distill_folders(
    teacher: Path,
    layer: str,
    folders: ImageFolders,
    run: Path,
    options: DistillOptions,
    report: Report,
    say: Say = no_report,
) -> Path:
    """`distill` from folders and split files; images that are held out are never learnt.

    Returns:
        The file of the backbone's weights.

    Raises:
        DataError: folders or names that do not fit.
        TrainingError: no such teacher, or a run folder of another recipe.
    """
    files = check_distilling(teacher, folders, run, options)
    network = teacher_features(teacher, layer)
    distill(network, files.main, files.extra, files.held_out, run, options, report, say=say)
    return run / "backbone.weights.h5"


def _cache(
    project: Callable[[NDArray[np.uint8]], NDArray[np.float16]],
    items: Sequence[tuple[Path, View]],
    teacher_side: int,
    run: Path,
    name: str,
    report: Report,
) -> _Cache:
    """Render every view for the student and run the teacher over it, once; goes on at the first batch not on disk."""

    def render(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        path, view = items[index]
        image = images.read_image(path)
        return view.render(image, SMALL_SIZE, SMALL_SIZE), view.render(image, teacher_side, teacher_side)

    def compute(pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> list[NDArray[Any]]:
        return [np.stack([p[0] for p in pairs]), project(np.stack([p[1] for p in pairs]))]

    columns = (
        Column(run / f"{name}-pictures.npy", (SMALL_SIZE, SMALL_SIZE, 3), np.uint8),
        Column(run / f"{name}-targets.npy", (*SMALL_GRID, SMALL_FEATURES), np.float16),
    )
    made = cached_arrays(
        columns,
        len(items),
        run / f"{name}-done.txt",
        render,
        compute,
        flush_every=50,
        report=lambda done: report(f"teacher's features, {name}", done, len(items)),
    )
    return _Cache(*made)


def _train(
    train: _Cache,
    held: _Cache,
    variance: NDArray[np.float32],
    run: Path,
    options: DistillOptions,
    report: Report,
    say: Say,
) -> keras.Model:
    steps = len(train.images) // options.batch_size
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
        self._order = np.random.default_rng([options.seed, epoch]).permutation(len(cache.images))

    def __len__(self) -> int:
        return len(self._order) // self._size

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        rows = np.sort(self._order[index * self._size : (index + 1) * self._size])
        return self._cache.images[rows], self._cache.targets[rows]


def _whole(cache: _Cache, batch_size: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((np.asarray(cache.images), np.asarray(cache.targets))).batch(batch_size)
