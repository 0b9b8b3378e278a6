"""What a search works with: the stepper that it calls, what a step gives, and the hypotheses that it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Weights = NDArray[np.float32]


class StepOutput(NamedTuple):
    """What a decoder gives for one more token a beam."""

    log_prob: NDArray[np.float32]
    """[B, K, C] natural log-probabilities of the C best next tokens, best first."""
    next_token: Ids
    """[B, K, C] those tokens; of equal ones the lower id first."""
    attention: Weights | None = None
    """[B, K, R] the weight of each region, where it was asked for and the model has it."""


class Stepper(Protocol):
    """A decoder that is captioning a batch of B images: it holds their states. The only thing a search knows of it."""

    def step(self, token: Ids, parent: Ids, *, candidates: int, attention: bool = False) -> StepOutput:
        """Give each beam its last token.

        Args:
            token: int64 [B, K].
            parent: int64 [B, K], the beam of the step before that each row continues.
            candidates: C of this step, from 1 to the size of the vocabulary.
            attention: also return the attention weights, where the model has them.
        """

    def select(self, rows: NDArray[np.intp]) -> None:
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
    """It ended with ``<end>``. False: it was cut, because nothing finished within ``max_length``."""
    attention: Weights | None = field(default=None, compare=False, repr=False)
    """[T, R] the weight of each region at each of ``tokens``: what the step that offered the token gave for the beam
    that it continues. None where it was not asked for, or the model has none."""
