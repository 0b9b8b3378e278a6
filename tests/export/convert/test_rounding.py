"""Rounded weights survive their way into the file and back bit for bit; folding a normalization changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow", reason="the export extra is not installed")

from batchcap.errors import ExportError
from batchcap_export.convert import rounding
from batchcap_export.training.backbones import load_backbone, small_backbone
from batchcap_export.training.rounded import fold_normalization


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from([(7, 5), (64, 3), (3, 3, 4, 6), (1, 9)]),
    axis=st.sampled_from([0, -1]),
    size=st.floats(1e-6, 1e4),
)
def test_int8_comes_back_exactly_whichever_way_the_matrix_is_turned(
    seed: int, shape: tuple[int, ...], axis: int, size: float
) -> None:
    values = (np.random.default_rng(seed).standard_normal(shape) * size).astype(np.float32)
    rounded = rounding.round_weights(values, "int8", axis)
    step = np.abs(values).max() / 127
    assert np.abs(rounded - values).max() <= step * 0.51
    for turned in (rounded, rounded.T):
        packed = rounding.pack(turned, "int8")
        assert packed is not None
        small, scale = packed
        assert small.dtype == np.int8
        np.testing.assert_array_equal(small.astype(np.float32) * scale, turned)


def test_zero_rows_and_what_is_not_rounded() -> None:
    values = np.zeros((4, 4), np.float32)
    values[1] = [1, -2, 3, 0.5]
    small, scale = rounding.pack(rounding.round_weights(values, "int8", 0), "int8") or pytest.fail("not packed")
    np.testing.assert_array_equal((small * scale)[0], 0)
    noise = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    assert rounding.pack(noise, "int8") is None
    assert rounding.pack(noise, "float16") is None
    assert rounding.pack(rounding.round_weights(noise, "float16", 0), "float16") is not None


def test_folding_the_normalization_changes_nothing() -> None:
    backbone = load_backbone("small")
    random = np.random.default_rng(3)
    for weight in backbone.model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.5, 2.0, weight.shape))
        elif weight.path.endswith(("beta", "moving_mean")):
            weight.assign(random.normal(0, 0.3, weight.shape))
    image = random.uniform(0, 255, (2, 160, 160, 3)).astype(np.float32)
    before = backbone.model(image, training=False).numpy()
    folded = fold_normalization(backbone)
    assert folded.model.count_params() < small_backbone().count_params()
    after = folded.model(image, training=False).numpy()
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()


def test_other_backbones_are_refused() -> None:
    backbone = load_backbone("MobileNetV2", size=96)
    with pytest.raises(ExportError, match=r"MobileNetV2.*float32"):
        fold_normalization(backbone)
