"""An interrupted training goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason="the export extra is not installed")

import keras

from batchcap_export.system.replacing import write_json
from batchcap_export.training import fitting
from batchcap_export.training.fitting import Stopping, fit_resumable


def _model() -> Any:
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse", jit_compile=False)
    return model


class _Data(keras.utils.PyDataset):
    def __init__(self, epoch: int) -> None:
        super().__init__()
        random = np.random.default_rng(epoch)
        self.x = random.standard_normal((64, 4)).astype(np.float32)
        self.y = self.x.sum(1, keepdims=True)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.x[index * 16 : index * 16 + 16], self.y[index * 16 : index * 16 + 16]


class _PowerCutError(Exception):
    pass


def test_a_resumed_training_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = _model()
    expected = fit_resumable(whole, _Data, _Data(99), 4, 1, tmp_path / "whole")

    def cut(epoch: int) -> Any:
        if epoch == 2:
            raise _PowerCutError
        return _Data(epoch)

    with pytest.raises(_PowerCutError):
        fit_resumable(_model(), cut, _Data(99), 4, 1, tmp_path / "cut")
    seen = []
    resumed = _model()
    history = fit_resumable(resumed, lambda e: (seen.append(e), _Data(e))[1], _Data(99), 4, 1, tmp_path / "cut")
    assert seen == [2, 3]
    assert len(history) == 4
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert [row["val_loss"] for row in history] == pytest.approx([row["val_loss"] for row in expected], rel=1e-5)


def test_the_best_weights_stay_when_the_loss_rises(tmp_path: Path) -> None:
    model = _model()

    def worse(epoch: int) -> Any:
        data = _Data(epoch)
        # From the second epoch on the targets are wrong, so that the measured loss can only rise.
        data.y = data.y if epoch == 0 else data.y * -50
        return data

    held_out = _Data(99)
    history = fit_resumable(model, worse, held_out, 10, 1, tmp_path, Stopping(patience=2))
    assert len(history) == 3
    assert model.evaluate(held_out, verbose=0) == pytest.approx(history[0]["val_loss"], rel=1e-5)


def test_a_stop_before_the_history_is_written_repeats_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of an epoch that the history does not know yet do not count."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = _model()
    fit_resumable(whole, _Data, _Data(99), 3, 1, tmp_path / "whole")

    def stop(path: Path, value: Any) -> None:
        if len(value) == 2:
            raise _PowerCutError
        write_json(path, value)

    with monkeypatch.context() as patched:
        patched.setattr(fitting, "write_json", stop)
        with pytest.raises(_PowerCutError):
            fit_resumable(_model(), _Data, _Data(99), 3, 1, tmp_path / "cut")
    resumed = _model()
    fit_resumable(resumed, _Data, _Data(99), 3, 1, tmp_path / "cut")
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert [p.name for p in (tmp_path / "cut").glob("after-*")] == ["after-3.weights.h5"]
