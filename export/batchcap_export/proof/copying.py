"""How much slower a step is that copies the memory for every beam."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchcap.bundle.bundle import Bundle
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.sessions import open_sessions

_BEAMS = 3
_TIMED = 20


def copying_cost(bundle: Bundle, pixels: NDArray[Any]) -> float:
    """How much longer a step takes because it copies each image's memory for its beams, on this machine's CPU.

    The same rows once as images of three beams, once as three times the images with one beam, which copies nothing.

    Args:
        pixels: [N, H, W, 3], of which at most 32 are used.
    """
    encoder, decoder = open_sessions(bundle, choose_device("cpu"))
    few, shown = pixels[:32], _BEAMS + 1
    steps = []
    for images, beams in ((few, _BEAMS), (np.concatenate([few] * _BEAMS), 1)):
        stepper = decoder.start(encoder(images))
        token = np.full((len(images), beams), bundle.manifest.tokens.start, np.int64)
        stepper.step(token[:, :1], np.zeros_like(token[:, :1]), candidates=shown)
        steps.append(partial(stepper.step, token, np.zeros_like(token), candidates=shown))
    # In turn, and the fastest of each: other work on the machine must not look like a cost.
    copied, shared = np.min([[_seconds(step) for step in steps] for _ in range(_TIMED)], axis=0)
    return float(copied / shared)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


_NOTICEABLE = 1.1


def copying_warning(cost: float) -> str:
    """What to say of a step that copies the memory for every beam and takes ``cost`` times as long.

    Nothing where it is not slower by more than what measuring varies.
    """
    if cost < _NOTICEABLE:
        return ""
    return (
        f"warning: the step copies the memory for every beam, which makes it {cost:.1f} times as slow; one that is "
        "written for beams does not copy (export_captioner, beams=True)"
    )
