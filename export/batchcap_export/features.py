"""Features of a frozen backbone, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.errors import ExportError
from batchcap_export import images
from batchcap_export.backbones import Backbone
from batchcap_export.fitting import Report

BATCH = 64


def cached_features(
    backbone: Backbone, files: Sequence[Path], views: int, seed: int, path: Path, report: Report
) -> NDArray[np.float16]:
    """Region features of every view of every picture, from ``path`` or into it.

    An interrupted call goes on behind the last batch that is on disk. ``report`` hears of every batch.

    Returns:
        float16 [pictures, views, R, F], memory-mapped.
    """
    shape = (len(files), views, backbone.grid[0] * backbone.grid[1], backbone.features)
    progress = path.with_suffix(".done")
    done = int(progress.read_text()) if progress.exists() and path.exists() else 0
    out = np.lib.format.open_memmap(path, "r+" if done else "w+", np.float16, shape)
    if out.shape != shape:
        raise ExportError(f"{path}: holds features of shape {out.shape}, not {shape}.", "Use a new run folder.")
    forward = tf.function(lambda x: backbone.model(tf.cast(x, tf.float32), training=False), reduce_retracing=True)

    def render(index: int) -> NDArray[np.uint8]:
        image = images.read_image(files[index])
        how = images.views(index, views, seed, min_area=0.6)
        return np.stack([view.render(image, backbone.height, backbone.width) for view in how])

    rendered = images.map_in_threads(render, range(done, len(files)))
    for start in range(done, len(files), BATCH):
        stop = min(start + BATCH, len(files))
        batch = np.concatenate([next(rendered) for _ in range(start, stop)])
        out[start:stop] = np.asarray(forward(batch)).reshape(stop - start, *shape[1:])
        if start // BATCH % 16 == 0 or stop == len(files):
            out.flush()
            progress.write_text(str(stop))
        report(f"features of {backbone.name}, {path.stem}", stop, len(files))
    return out
