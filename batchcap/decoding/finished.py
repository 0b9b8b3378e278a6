"""The best finished hypotheses of a batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchcap.decoding.backpointers import Backpointers
from batchcap.decoding.types import Floats, Hypothesis, Ids


class FinishedHypotheses:
    """The best finished hypotheses of every image so far: [images, size], best first, -inf where there is none.

    One is kept as (words, beam): it is beam ``beam`` after ``words`` tokens, which `Backpointers` reads.

    Attributes:
        score: [images, size].
        ended: [images] whether one of the image ended with ``<end>``.
    """

    def __init__(self, images: int, size: int) -> None:
        self.score = np.full((images, size), -np.inf)
        self.ended = np.zeros(images, bool)
        self._log_prob = np.full((images, size), -np.inf)
        self._words = np.zeros((images, size), np.int64)
        self._beam = np.zeros((images, size), np.int64)

    def add(self, rows: NDArray[np.intp], score: Floats, log_prob: Floats, beam: Ids, words: int) -> None:
        """Merge what ended now; of equal scores the earlier stays ahead.

        Args:
            rows: [B'] the images.
            score: [B', K] best first, -inf where nothing ended.
            log_prob: [B', K].
            beam: [B', K] the beam that each ended from.
            words: how many tokens these have.
        """
        ended = score[:, 0] > -np.inf
        if not ended.any():
            return
        rows, score, log_prob, beam = rows[ended], score[ended], log_prob[ended], beam[ended]
        self.ended[rows] = True
        merged = np.concatenate((self.score[rows], score), axis=1)
        order = np.argsort(-merged, axis=1, kind="stable")[:, : self.score.shape[1]]
        at = np.arange(len(rows))[:, None]
        self.score[rows] = merged[at, order]
        self._log_prob[rows] = np.concatenate((self._log_prob[rows], log_prob), axis=1)[at, order]
        self._beam[rows] = np.concatenate((self._beam[rows], beam), axis=1)[at, order]
        self._words[rows] = np.concatenate((self._words[rows], np.full_like(beam, words)), axis=1)[at, order]

    def add_cut(self, rows: NDArray[np.intp], total: Floats, words: int, length: float) -> None:
        """Where nothing ended and nothing can go on, the result is the beams as they are.

        Args:
            rows: [B'] the images.
            total: [B', K] log-probabilities, best first; -inf where an image is not cut now.
            words: how many tokens these have.
            length: what a log-probability is divided by for its score.
        """
        size = min(self.score.shape[1], total.shape[1])
        cut = np.flatnonzero(total[:, 0] > -np.inf)
        at = np.ix_(rows[cut], np.arange(size))
        self._log_prob[at] = total[cut, :size]
        self.score[at] = total[cut, :size] / length
        self._words[at] = words
        self._beam[at] = np.arange(size)

    def hypotheses(self, backpointers: Backpointers) -> list[list[Hypothesis]]:
        """All of them, image by image, best first."""
        image, slot = np.nonzero(self.score > -np.inf)
        read = backpointers.read(image, self._words[image, slot], self._beam[image, slot])
        scores = zip(self._log_prob[image, slot].tolist(), self.score[image, slot].tolist(), strict=True)
        found: list[list[Hypothesis]] = [[] for _ in self.score]
        for i, (tokens, attention), (log_prob, score) in zip(image.tolist(), read, scores, strict=True):
            found[i].append(Hypothesis(tokens, log_prob, score, bool(self.ended[i]), attention))
        return found
