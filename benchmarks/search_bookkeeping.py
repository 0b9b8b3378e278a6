"""What beam search costs besides the model: milliseconds a step of NumPy, with tables in the place of a decoder.

    python benchmarks/search_bookkeeping.py [-o results.json]

``all stay``: no image finishes before the last step, so every step has all of them. ``images leave``: each row shows
``<end>`` with a chance of one in twelve, so images finish and leave the batch as they do in a run. Both times are those
of the whole search, the captions read back at the end included, less the time in the tables.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from batchcap.decoding.driver import STRATEGIES, search
from batchcap.decoding.request import SearchRequest
from batchcap.decoding.types import Ids, StepOutput
from batchcap.options.decoding import DecodingOptions
from batchcap.tools.machine import machine
from batchcap.tools.step_clock import StepClock

START, END, UNKNOWN = 1, 2, 3
BANNED = (START, UNKNOWN)
CASES = {"all stay": 0.0, "images leave": 1 / 12}


class Tables:
    """A model that has all its answers ready: those of a step do not depend on what was said."""

    def __init__(self, images: int, options: DecodingOptions, candidates: int, words: int, ending: float) -> None:
        random = np.random.default_rng(0)
        beams = options.beam_size
        self._rows = np.arange(images)
        self._answers: list[StepOutput] = []
        for step in range(options.max_length):
            shape = (images, beams if step else 1, candidates)
            log_prob = -np.sort(random.exponential(2.0, shape), axis=2).astype(np.float32)
            token = random.integers(UNKNOWN + 1, words, shape)
            ends = random.random(shape[:2]) < ending
            token[ends, random.integers(0, candidates, shape[:2])[ends]] = END
            self._answers.append(StepOutput(log_prob, token))
        # The step after the longest caption shows the whole vocabulary.
        log_prob = -np.sort(random.exponential(2.0, (images, beams, words)), axis=2).astype(np.float32)
        token = random.permuted(np.tile(np.arange(words), (images, beams, 1)), axis=2)
        self._answers.append(StepOutput(log_prob, token))
        self._next: Iterator[StepOutput] = iter(self._answers)

    def begin(self, images: int) -> Tables:
        """The same tables for a new search."""
        self._rows, self._next = np.arange(images), iter(self._answers)
        return self

    def step(self, token: Ids, parent: Ids, **_: object) -> StepOutput:  # noqa: ARG002 - what was said is not asked
        """The answers for the images that are still there."""
        answer = next(self._next)
        return StepOutput(answer.log_prob[self._rows], answer.next_token[self._rows])

    def select(self, rows: Ids) -> None:
        """Go on with these images only."""
        self._rows = self._rows[rows]


def measure(images: int, words: int, repeats: int, ending: float) -> dict[str, float]:
    """Medians over ``repeats`` searches of ``images`` images with the default decoding and two banned tokens."""
    options = DecodingOptions()
    request = SearchRequest(images=images, options=options, start=START, end=END, vocabulary_size=words, banned=BANNED)
    candidates = STRATEGIES[options.search](request).candidates
    tables = Tables(images, options, candidates, words, ending)
    figures = []
    for _ in range(repeats + 1):
        clock = StepClock()
        watched = clock(tables.begin(images))
        started = time.perf_counter()
        search(watched, request)
        spent = time.perf_counter() - started - clock.seconds
        figures.append((clock.steps, 1e3 * spent / clock.steps, 1e6 * spent / clock.image_steps))
    steps, step, image_step = (statistics.median(column) for column in zip(*figures[1:], strict=True))
    return {"candidates": candidates, "steps": steps, "ms_a_step": step, "us_an_image_and_step": image_step}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256, help="images in the batch (256)")
    parser.add_argument("--words", type=int, default=3000, help="size of the vocabulary (3000)")
    parser.add_argument("--repeats", type=int, default=200, help="searches of each case; the median counts (200)")
    parser.add_argument("-o", "--output", type=Path, help="also write the figures as JSON")
    chosen = parser.parse_args()
    cases = {case: measure(chosen.images, chosen.words, chosen.repeats, ending) for case, ending in CASES.items()}
    for case, figures in cases.items():
        candidates = f"B={chosen.images}, K={DecodingOptions().beam_size}, C={figures['candidates']:.0f}"
        print(
            f"{case}: {candidates}, {figures['steps']:.0f} steps: {figures['ms_a_step']:.3f} ms a step, "
            f"{figures['us_an_image_and_step']:.2f} us an image and step"
        )
    if chosen.output:
        settings = {"decoding": DecodingOptions().label, "max_length": DecodingOptions().max_length, **vars(chosen)}
        del settings["output"]
        report = {"settings": settings, "machine": machine(), "cases": cases}
        chosen.output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


if __name__ == "__main__":
    main()
