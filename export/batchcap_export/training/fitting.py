"""Keras ``fit`` that can be resumed: its whole state is on disk after each epoch, and a new call goes on from there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from batchcap.reporting import Report, Say, no_report
from batchcap_export.system.replacing import replace, write_json

History = list[dict[str, float]]


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
    *,
    report: Report = no_report,
    say: Say = no_report,
) -> History:
    """Train ``model`` (compiled) and leave it with its last weights, or its best ones if ``stopping`` is given.

    Args:
        batches: the data of an epoch, from the epoch's number alone, so that a resumed run sees the same.
        seed: what dropout depends on, together with the epoch.
        held_out: data whose loss is measured after each epoch.
        run: folder for ``history.json``, ``after-N.weights.h5`` (with the optimizer's state) and ``best.weights.h5``.
        report: gets every batch, and the losses of every epoch.
        say: gets where a training goes on, and why it stops early.

    Returns:
        One row an epoch: ``loss``, ``val_loss``.
    """
    history_file, best = run / "history.json", run / "best.weights.h5"
    history = _resume(model, run, epochs, say)
    for epoch in range(len(history), epochs):
        if stopping is not None and _waited(history) >= stopping.patience:
            say(f"stopped: the dev loss has not fallen for {_waited(history)} epochs")
            break
        _reseed(model, seed, epoch)
        started, progress = time.monotonic(), _Progress(report, epoch + 1, epochs)
        result = model.fit(
            batches(epoch),
            validation_data=held_out,
            initial_epoch=epoch,
            epochs=epoch + 1,
            # The data has its own order; Keras would shuffle it by a random state that no file keeps.
            shuffle=False,
            callbacks=[progress],
            # Keras counts to the end of this call; the reports count to the end of the training.
            verbose=0,
        )
        history.append({name: float(values[-1]) for name, values in result.history.items()})
        if _waited(history) == 0:
            replace(best, model.save_weights)
        replace(_latest(run, epoch + 1), model.save_weights)
        # history.json says how many epochs count, and so which weights; only then may the ones before go.
        write_json(history_file, history)
        _latest(run, epoch).unlink(missing_ok=True)
        progress.finish(history, time.monotonic() - started)
    if stopping is not None and best.exists():
        model.load_weights(best)
    return history


def _resume(model: keras.Model, run: Path, epochs: int, say: Say) -> History:
    """The epochs that count, with the weights after them loaded; none where a file of them is missing or torn."""
    file = run / "history.json"
    if not file.exists():
        return []
    try:
        history = msgspec.json.decode(file.read_bytes(), type=list[dict[str, float]])
        if history:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(_latest(run, len(history)))
    except (msgspec.MsgspecError, OSError) as error:
        say(f"{run}: the epochs that were done cannot be read ({error}): training begins again with the first")
        file.unlink()
        return []
    if len(history) >= epochs:
        say(f"all {epochs} epochs are done")
    elif history:
        say(f"goes on after epoch {len(history)} of {epochs}, whose dev loss was {history[-1]['val_loss']:.3f}")
    return history


class _Progress(keras.callbacks.Callback):
    """Reports every batch of an epoch, and its losses in the end."""

    def __init__(self, report: Report, epoch: int, epochs: int) -> None:
        super().__init__()
        self._report, self._what, self._done = report, f"epoch {epoch} of {epochs}", 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Never the last report: the held-out loss is not known yet."""
        self._done = batch + 1
        self._report(self._what, self._done, max(self.params.get("steps") or 0, self._done) + 1)

    def finish(self, history: History, seconds: float) -> None:
        """The last report of the epoch."""
        losses = history[-1]
        lowest = ", the lowest so far" if len(history) > 1 and _waited(history) == 0 else ""
        note = f"loss {losses['loss']:.3f}, dev loss {losses['val_loss']:.3f}{lowest}, {seconds:.0f} s"
        self._report(self._what, self._done + 1, self._done + 1, note)


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
