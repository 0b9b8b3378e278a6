"""What a search works with: a model's step, the captions it yields, and the trail of tokens that leads to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Weights = NDArray[np.float32]


class StepOutput(NamedTuple):
    """What a model says after one more token a beam."""

    log_prob: NDArray[np.float32]
    """[B, K, C] natural log-probabilities of the C best next tokens, best first."""
    next_token: Ids
    """[B, K, C] those tokens; of equal ones the lower id first."""
    attention: Weights | None = None
    """[B, K, R] the weight of each region, where it was asked for and the model has it."""


class Step(Protocol):
    """A model in the middle of captioning B images."""

    def step(self, token: Ids, parent: Ids, *, attention: bool = False, candidates: int | None = None) -> StepOutput:
        """Give each beam its last token.

        Args:
            token: [B, K].
            parent: [B, K] the beam of the step before that each row continues.
            attention: also return the attention weights.
            candidates: C of this step, 1 to V; None is the number it was begun with.
        """

    def select(self, rows: Ids) -> None:
        """Go on with these images only: [B'] rows of the B."""


Leaving: TypeAlias = Callable[[NDArray[np.bool_]], NDArray[np.intp] | None]
"""When images leave the batch: from which are not done, ``open_`` [B], to the rows that stay, [B'] in their order and
all open ones among them; None where all stay."""


def leave_at_once(open_: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    """The images that are done leave as soon as that pays.

    Leaving copies the states of those who stay: measured at a tenth of a step, so a quarter fewer pays at once.
    """
    keep = np.flatnonzero(open_)
    return keep if 4 * len(keep) <= 3 * len(open_) else None


def leave_by_halves(open_: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    """The batch becomes half as large, or a quarter, ...; where fewer are open, some that are done fill it up.

    For a device that pays for each batch size it has not met before: a batch of 64 can only become 32, 16, ..., 1.
    """
    size, staying = len(open_), np.count_nonzero(open_)
    while 1 <= staying <= size // 2:
        size //= 2
    return np.sort(np.argsort(~open_, kind="stable")[:size]) if size < len(open_) else None


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One caption in tokens."""

    tokens: tuple[int, ...]
    """The generated tokens, without ``<end>``."""
    log_prob: float
    """Sum of the natural log-probabilities of the generated tokens, ``<end>`` included."""
    score: float
    """``log_prob / n ** length_penalty``, n = generated tokens, ``<end>`` included."""
    finished: bool
    """It ended with ``<end>``; False: it was cut, because nothing finished within ``max_length``."""
    attention: Weights | None = field(default=None, compare=False, repr=False)
    """[T, R] the weight of each region at each of ``tokens``: what the step that offered the token gave for the beam
    that it continues. None where it was not asked for, or the model has none."""


class Trail:
    """Which token each beam took at each step, and from which beam: captions are read backwards, once, at the end.

    Attention weights, where there are any, stay as the steps gave them, [B', K, R] each, as long as the trail.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[NDArray[np.intp], Ids, Ids]] = []
        self._looked: list[Weights] = []

    def look(self, attention: Weights | None) -> None:
        """What a step gave, before its tokens are chosen: for every step, the last one too, or for none."""
        if attention is not None:
            self._looked.append(attention)

    def add(self, rows: NDArray[np.intp], images: int, token: Ids, parent: Ids) -> None:
        """One more step of the images ``rows``."""
        if self._steps and len(self._steps[-1][1]) == len(rows):
            place = self._steps[-1][0]
        else:
            place = np.zeros(images, np.intp)
            place[rows] = np.arange(len(rows))
        self._steps.append((place, token, parent))

    def read(self, image: NDArray[np.intp], words: Ids, beam: Ids) -> list[tuple[tuple[int, ...], Weights | None]]:
        """Tokens and attention of hypotheses: beam ``beam`` [N] of image ``image`` [N] after ``words`` [N] steps."""
        longest = int(words.max(initial=0))
        out = np.zeros((len(image), longest), np.int64)
        regions = self._looked[0].shape[2] if self._looked else 0
        seen = np.zeros((len(image), longest, regions), np.float32)
        beam = beam.copy()
        for step in range(longest - 1, -1, -1):
            place, token, parent = self._steps[step]
            inside = np.flatnonzero(words > step)
            row = place[image[inside]]
            out[inside, step] = token[row, beam[inside]]
            beam[inside] = parent[row, beam[inside]]
            if self._looked:
                seen[inside, step] = self._looked[step][row, beam[inside]]
        # Copies: a caption that is kept must not keep the weights of its whole batch.
        return [
            (tuple(line[:n]), weights[:n].copy() if self._looked else None)
            for line, weights, n in zip(out.tolist(), seen, words.tolist(), strict=True)
        ]


class Best:
    """The best finished hypotheses of every image so far: [images, num_captions], best first, -inf where there is none.

    Kept as (words, beam): the hypothesis is beam ``beam`` after ``words`` tokens, which `Trail` reads.
    """

    def __init__(self, images: int, size: int) -> None:
        self.score = np.full((images, size), -np.inf)
        self.log_prob = np.full((images, size), -np.inf)
        self.words = np.zeros((images, size), np.int64)
        self.beam = np.zeros((images, size), np.int64)
        self.finished = np.zeros(images, bool)

    def add(self, rows: NDArray[np.intp], score: Floats, log_prob: Floats, beam: Ids, words: int) -> None:
        """Merge what ended now into the best; of equal scores the earlier stays ahead."""
        ended = score[:, 0] > -np.inf
        if not ended.any():
            return
        rows, score, log_prob, beam = rows[ended], score[ended], log_prob[ended], beam[ended]
        self.finished[rows] = True
        merged = np.concatenate((self.score[rows], score), axis=1)
        order = np.argsort(-merged, axis=1, kind="stable")[:, : self.score.shape[1]]
        at = np.arange(len(rows))[:, None]
        self.score[rows] = merged[at, order]
        self.log_prob[rows] = np.concatenate((self.log_prob[rows], log_prob), axis=1)[at, order]
        self.beam[rows] = np.concatenate((self.beam[rows], beam), axis=1)[at, order]
        self.words[rows] = np.concatenate((self.words[rows], np.full_like(beam, words)), axis=1)[at, order]

    def cut(self, rows: NDArray[np.intp], total: Floats, words: int, length: float) -> None:
        """Where nothing finished and nothing can go on, the beams as they were are the result."""
        size = min(self.score.shape[1], total.shape[1])
        stuck = np.flatnonzero(total[:, 0] > -np.inf)
        at = np.ix_(rows[stuck], np.arange(size))
        self.log_prob[at] = total[stuck, :size]
        self.score[at] = total[stuck, :size] / length
        self.words[at] = words
        self.beam[at] = np.arange(size)

    def hypotheses(self, trail: Trail) -> list[list[Hypothesis]]:
        """All of them, image by image, best first."""
        image, slot = np.nonzero(self.score > -np.inf)
        said = trail.read(image, self.words[image, slot], self.beam[image, slot])
        scores = zip(self.log_prob[image, slot].tolist(), self.score[image, slot].tolist(), strict=True)
        found: list[list[Hypothesis]] = [[] for _ in self.score]
        for i, (words, attention), (log_prob, score) in zip(image.tolist(), said, scores, strict=True):
            found[i].append(Hypothesis(words, log_prob, score, bool(self.finished[i]), attention))
        return found
