"""Features of a frozen backbone, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.reporting import Report
from batchcap_export.data import images
from batchcap_export.data.views import make_views
from batchcap_export.training.backbones import Backbone
from batchcap_export.training.caches import Column, cached_arrays


def cached_features(
    backbone: Backbone, files: Sequence[Path], views: int, seed: int, path: Path, report: Report
) -> NDArray[np.float16]:
    """Region features of every view of every image, from ``path`` or into it.

    An interrupted call goes on after the last batch that is on disk. ``report`` gets every batch.

    Returns:
        float16 [images, views, R, F], memory-mapped.
    """
    row = views, backbone.grid[0] * backbone.grid[1], backbone.features
    forward = tf.function(lambda x: backbone.model(tf.cast(x, tf.float32), training=False), reduce_retracing=True)

    def render(index: int) -> NDArray[np.uint8]:
        image = images.read_image(files[index])
        how = make_views(index, views, seed, min_area=0.6)
        return np.stack([view.render(image, backbone.height, backbone.width) for view in how])

    def compute(rendered: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        return [np.asarray(forward(np.concatenate(rendered))).reshape(len(rendered), *row)]

    what = f"features of {backbone.name}, {path.stem}"
    [features] = cached_arrays(
        [Column(path, row, np.float16)],
        len(files),
        path.with_suffix(".done"),
        render,
        compute,
        flush_every=16,
        report=lambda done: report(what, done, len(files)),
    )
    return features
