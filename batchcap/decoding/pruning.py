"""Pruning policies: when the images of a batch that are done leave it, so that later steps are smaller."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

PruningPolicy: TypeAlias = Callable[[NDArray[np.bool_]], NDArray[np.intp] | None]
"""From ``open_`` [B], true for the images that are not done, to the rows that stay: [B'], in their order, all open
images among them. None where all stay. A policy changes no caption, only what a step costs."""


def prune_at_once(open_: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    """Keep the open images alone, as soon as a quarter of the batch is done.

    Pruning copies the states of those that stay. That was measured at a tenth of a step, so a quarter less pays at
    once.
    """
    keep = np.flatnonzero(open_)
    return keep if 4 * len(keep) <= 3 * len(open_) else None


def prune_by_halves(open_: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    """Make the batch half as large, or a quarter, ...; where fewer images are open, some that are done fill it up.

    For a device on which every new batch size costs time: a batch of 64 can only become 32, 16, ..., 1.
    """
    size, staying = len(open_), np.count_nonzero(open_)
    while 1 <= staying <= size // 2:
        size //= 2
    return np.sort(np.argsort(~open_, kind="stable")[:size]) if size < len(open_) else None
