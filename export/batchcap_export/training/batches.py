"""Captions with the features of their images, batch by batch."""

from __future__ import annotations

import math

import keras
import numpy as np
from numpy.typing import NDArray

from batchcap_export.data.words import Sequences
from batchcap_export.options.training import TrainOptions


class Batches(keras.utils.PyDataset):
    """Captions with a view of their image each. ``epoch`` decides order and views; None takes each once, in order."""

    def __init__(
        self, features: NDArray[np.float16], sequences: Sequences, options: TrainOptions, epoch: int | None
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=4)
        self._features, self._sequences, self._size = features, sequences, options.batch_size
        captions = len(sequences.tokens)
        random = np.random.default_rng([options.seed, epoch or 0])
        self._order = np.arange(captions) if epoch is None else random.permutation(captions)
        self._view = np.zeros(captions, int) if epoch is None else random.integers(features.shape[1], size=captions)

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._size)

    def __getitem__(self, index: int) -> tuple[tuple[NDArray[np.float32], NDArray[np.int32]], NDArray[np.int32]]:
        rows = self._order[index * self._size : (index + 1) * self._size]
        features = self._features[self._sequences.image[rows], self._view[rows]].astype(np.float32)
        tokens = self._sequences.tokens[rows]
        return (features, tokens[:, :-1]), tokens[:, 1:]
