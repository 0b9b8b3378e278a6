"""Keras ``fit`` that a power cut cannot hurt: its whole state is on disk after each epoch, a new call goes on there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from batchcap_export.runs import replace, write_json

History = list[dict[str, float]]
Report = Callable[[str, int, int], None]
"""Hears how far a long job is: what, done, total."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """When to stop before the last epoch: the measured loss has not fallen for ``patience`` epochs."""

    patience: int


def fit_resumable(
    model: keras.Model,
    batches: Callable[[int], Any],
    held_out: Any,
    epochs: int,
    seed: int,
    run: Path,
    stopping: Stopping | None = None,
) -> History:
    """Train ``model`` (compiled) and leave it with its last weights, or its best ones if ``stopping`` is given.

    Args:
        batches: the data of an epoch, from the epoch's number alone, so that a resumed run sees the same.
        seed: what dropout depends on, together with the epoch.
        held_out: data whose loss is measured after each epoch.
        run: folder for ``history.json``, ``after-N.weights.h5`` (with the optimizer's state) and ``best.weights.h5``.

    Returns:
        One row an epoch: ``loss``, ``val_loss``.
    """
    history_file, best = run / "history.json", run / "best.weights.h5"
    history: History = msgspec.json.decode(history_file.read_bytes()) if history_file.exists() else []
    if history:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(_latest(run, len(history)))
    for epoch in range(len(history), epochs):
        if stopping is not None and _waited(history) >= stopping.patience:
            break
        _reseed(model, seed, epoch)
        result = model.fit(
            batches(epoch),
            validation_data=held_out,
            initial_epoch=epoch,
            epochs=epoch + 1,
            # The data has its own order; Keras would shuffle it by a random state that no file keeps.
            shuffle=False,
            verbose=1 if sys.stderr.isatty() and sys.stdout.isatty() else 2,
        )
        history.append({name: float(values[-1]) for name, values in result.history.items()})
        if _waited(history) == 0:
            replace(best, model.save_weights)
        replace(_latest(run, epoch + 1), model.save_weights)
        # history.json says how many epochs count, and so which weights; only then may the ones before go.
        write_json(history_file, history)
        _latest(run, epoch).unlink(missing_ok=True)
    if stopping is not None and best.exists():
        model.load_weights(best)
    return history


def _reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Start dropout's random numbers anew: Keras does not keep their state in a weights file."""
    random = np.random.default_rng([seed, epoch])
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(random.integers(0, 2**31, variable.shape))


def _latest(run: Path, epochs: int) -> Path:
    return run / f"after-{epochs}.weights.h5"


def _waited(history: History) -> int:
    """Epochs since the lowest measured loss."""
    losses = [row["val_loss"] for row in history]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
