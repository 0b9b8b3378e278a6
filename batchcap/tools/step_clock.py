"""A clock around the steps of a model: how many there are, and the time in them."""

from __future__ import annotations

import time

from batchcap.decoding.types import Ids, StepOutput, Stepper


class StepClock:
    """Counts and times the steps of a model; it is what `Captioner.watch` calls.

    Attributes:
        steps: how many there were.
        image_steps: images in them, summed.
        seconds: time in the steps and in letting finished images go; what a search takes besides is bookkeeping.
    """

    def __init__(self) -> None:
        self.steps = self.image_steps = 0
        self.seconds = 0.0

    def __call__(self, stepper: Stepper) -> Stepper:
        """The same stepper, with this clock around it."""
        return _Watched(self, stepper)


class _Watched:
    """A stepper that is timed while it works."""

    def __init__(self, clock: StepClock, stepper: Stepper) -> None:
        self._clock, self._stepper = clock, stepper

    def step(self, token: Ids, parent: Ids, *, candidates: int, attention: bool = False) -> StepOutput:
        started = time.perf_counter()
        out = self._stepper.step(token, parent, candidates=candidates, attention=attention)
        self._clock.seconds += time.perf_counter() - started
        self._clock.steps += 1
        self._clock.image_steps += len(token)
        return out

    def select(self, rows: Ids) -> None:
        started = time.perf_counter()
        self._stepper.select(rows)
        self._clock.seconds += time.perf_counter() - started
