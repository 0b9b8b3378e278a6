"""What differs from search to search: which of a step's candidates live on, which finish, and when an image is done."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from batchcap.decoding.backpointers import Backpointers
from batchcap.decoding.types import Hypothesis, Ids, StepOutput


class ScoredStep(NamedTuple):
    """One step of the model, as a strategy gets it. B' images are still in the batch, with K beams each."""

    rows: NDArray[np.intp]
    """[B'] which images of the request these are."""
    words: int
    """How many tokens the hypotheses have before this step."""
    out: StepOutput
    allowed: NDArray[np.bool_]
    """[B', K, C] which of the candidates the token constraints allow."""
    forced: bool
    """One token alone is allowed, because it is of the prefix: one beam is enough until the first free token."""


class Continuation(NamedTuple):
    """The hypotheses that live on."""

    token: Ids
    """[B', K'] the token that each took."""
    parent: Ids
    """[B', K'] the beam that it took it from."""
    open_: NDArray[np.bool_]
    """[B'] the images that are not done."""


class Strategy(Protocol):
    """One search over one batch. It is made from a `SearchRequest`, and holds what it has found so far.

    Attributes:
        steps: the most steps that it makes.
        candidates: C, the next tokens that it must see of each beam to be exact, at every step that has a choice.
    """

    steps: int
    candidates: int

    def advance(self, step: ScoredStep) -> Continuation:
        """Finish and continue hypotheses by one token."""

    def select(self, rows: NDArray[np.intp]) -> None:
        """Go on with these rows of the batch only; every open image is among them."""

    def hypotheses(self, backpointers: Backpointers) -> list[list[Hypothesis]]:
        """What was found for each image, best first."""
