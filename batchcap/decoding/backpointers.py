"""Backpointers: which token each beam took at each step, and from which beam."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchcap.decoding.types import Ids, Weights


class Backpointers:
    """The tokens and parents of every step; captions are read backwards along them, once, when the search is done.

    Attention weights, where there are any, are kept as the steps gave them, [B', K, R] each.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._steps: list[tuple[NDArray[np.intp], Ids, Ids]] = []
        self._attention: list[Weights] = []

    def record_attention(self, attention: Weights | None) -> None:
        """Keep the attention [B', K, R] of a step: that of every step, or of none."""
        if attention is not None:
            self._attention.append(attention)

    def record(self, rows: NDArray[np.intp], token: Ids, parent: Ids) -> None:
        """Keep token and parent [B', K] of one more step of the images ``rows`` [B']."""
        if self._steps and len(self._steps[-1][1]) == len(rows):
            row_of_image = self._steps[-1][0]
        else:
            row_of_image = np.zeros(self._images, np.intp)
            row_of_image[rows] = np.arange(len(rows))
        self._steps.append((row_of_image, token, parent))

    def read(self, image: NDArray[np.intp], words: Ids, beam: Ids) -> list[tuple[tuple[int, ...], Weights | None]]:
        """Tokens and attention of N hypotheses.

        Args:
            image: [N].
            words: [N] how many tokens each has.
            beam: [N] its beam after so many steps.
        """
        longest = int(words.max(initial=0))
        tokens = np.zeros((len(image), longest), np.int64)
        regions = self._attention[0].shape[2] if self._attention else 0
        attention = np.zeros((len(image), longest, regions), np.float32)
        beam = beam.copy()
        for step in range(longest - 1, -1, -1):
            row_of_image, token, parent = self._steps[step]
            inside = np.flatnonzero(words > step)
            row = row_of_image[image[inside]]
            tokens[inside, step] = token[row, beam[inside]]
            beam[inside] = parent[row, beam[inside]]
            if self._attention:
                attention[inside, step] = self._attention[step][row, beam[inside]]
        # Copies: a caption that is kept must not keep the weights of its whole batch.
        return [
            (tuple(line[:n]), weights[:n].copy() if self._attention else None)
            for line, weights, n in zip(tokens.tolist(), attention, words.tolist(), strict=True)
        ]
