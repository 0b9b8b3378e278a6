"""Features of a frozen backbone, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap_export.data import images
from batchcap_export.training.backbones import Backbone
from batchcap_export.training.fitting import Report
from batchcap_export.training.runs import note_done, open_cache, read_done

BATCH = 64


def cached_features(
    backbone: Backbone, files: Sequence[Path], views: int, seed: int, path: Path, report: Report
) -> NDArray[np.float16]:
    """Region features of every view of every image, from ``path`` or into it.

    An interrupted call goes on behind the last batch that is on disk. ``report`` hears of every batch.

    Returns:
        float16 [images, views, R, F], memory-mapped.
    """
    shape = (len(files), views, backbone.grid[0] * backbone.grid[1], backbone.features)
    progress = path.with_suffix(".done")
    out, done = open_cache(path, shape, np.float16, read_done(progress, len(files)))
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
            note_done(progress, stop)
        report(f"features of {backbone.name}, {path.stem}", stop, len(files))
    return out
