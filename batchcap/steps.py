"""What a search works with: a model's step, the captions it yields, and the trail of tokens that leads to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


class StepOutput(NamedTuple):
    """What a model says after one more token a beam."""

    log_prob: NDArray[np.float32]
    """[B, K, C] natural log-probabilities of the C best next tokens, best first."""
    next_token: Ids
    """[B, K, C] those tokens; of equal ones the lower id first."""
    attention: NDArray[np.float32] | None = None
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


class Trail:
    """Which token each beam took at each step, and from which beam: tokens are read backwards, once, at the end."""

    def __init__(self) -> None:
        self._steps: list[tuple[NDArray[np.intp], Ids, Ids]] = []

    def add(self, rows: NDArray[np.intp], images: int, token: Ids, parent: Ids) -> None:
        """One more step of the images ``rows``."""
        if self._steps and len(self._steps[-1][1]) == len(rows):
            place = self._steps[-1][0]
        else:
            place = np.zeros(images, np.intp)
            place[rows] = np.arange(len(rows))
        self._steps.append((place, token, parent))

    def tokens(self, image: NDArray[np.intp], words: Ids, beam: Ids) -> list[tuple[int, ...]]:
        """The tokens of hypotheses: beam ``beam`` [N] of image ``image`` [N] after ``words`` [N] steps."""
        longest = int(words.max(initial=0))
        out = np.zeros((len(image), longest), np.int64)
        beam = beam.copy()
        for step in range(longest - 1, -1, -1):
            place, token, parent = self._steps[step]
            inside = np.flatnonzero(words > step)
            row = place[image[inside]]
            out[inside, step] = token[row, beam[inside]]
            beam[inside] = parent[row, beam[inside]]
        return [tuple(line[:n]) for line, n in zip(out.tolist(), words.tolist(), strict=True)]
