"""The inputs that the graphs of a bundle get while images are captioned: int8 takes its ranges from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchcap.bundle.bundle import Bundle
from batchcap.decoding.types import Ids, StepOutput, Stepper
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoder import OnnxStepper
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device
from batchcap_export.convert.lowering import Feed
from batchcap_export.data import images

# Images of one feed: a range is the mean of the feeds' extremes.
_FED = 4


def _batches(bundle: Bundle, files: Iterable[Path]) -> Iterator[NDArray[Any]]:
    """Pixels [4, H, W, 3]; the last ones may be fewer."""
    rest = iter(files)
    while some := list(islice(rest, _FED)):
        yield images.read_pixels(some, bundle.manifest.preprocess)


def encoder_feeds(bundle: Bundle, files: Iterable[Path]) -> Iterator[Feed]:
    """The encoder's inputs: pixels [4, H, W, 3]; the last feed may have fewer."""
    return ({"image": pixels} for pixels in _batches(bundle, files))


def decoder_feeds(bundle: Bundle, files: Iterable[Path]) -> Iterator[Feed]:
    """The decoder's inputs at each step while these images are captioned."""
    captioner = Captioner(bundle.at("fp32"), decoding_options(bundle.manifest), choose_device("cpu"))
    for pixels in _batches(bundle, files):
        recorder = _Recorder()
        captioner.watch = recorder
        captioner.caption_pixels(pixels, len(pixels))
        yield from recorder.feeds


class _Recorder:
    """Keeps what each step is given; see `Captioner.watch`."""

    def __init__(self) -> None:
        self.feeds: list[Feed] = []

    def __call__(self, stepper: Stepper) -> Stepper:
        assert isinstance(stepper, OnnxStepper)  # the captioner's own
        self._stepper = stepper
        return self

    def step(self, token: Ids, parent: Ids, *, candidates: int, attention: bool = False) -> StepOutput:
        one = np.array([1], np.int64)  # how many words are shown changes no range
        self.feeds.append({"token": token, "parent": parent, "candidates": one, **self._stepper.carried})
        return self._stepper.step(token, parent, candidates=candidates, attention=attention)

    def select(self, rows: Ids) -> None:
        self._stepper.select(rows)
