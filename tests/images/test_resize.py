"""Resizing gives exactly what TensorFlow and Pillow compute, whatever their versions, and fits it to the graph."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
from encoded import noise
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from batchcap.images import resize as resizing
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import Preprocess
from batchcap.images.resize import resize

AS_PILLOW_13 = pytest.mark.skipif(
    PIL.__version__.startswith(("11.", "12.")), reason="an older Pillow has another order of passes"
)


@pytest.mark.parametrize("method", ["bilinear", "bilinear-tf1"])
def test_bilinear_is_tensorflows_to_the_last_bit(recorded: dict[str, NDArray[np.generic]], method: str) -> None:
    cases = [name for name in recorded if name.startswith("image_")]
    assert len(cases) == 10
    for name in cases:
        expected = recorded[name.replace("image", method)]
        got = resize(recorded[name], *expected.shape[:2], method, "float32")
        assert got.dtype == expected.dtype == np.float32
        np.testing.assert_array_equal(got, expected, err_msg=f"{name} {method}")


def test_the_two_bilinear_methods_differ(recorded: dict[str, NDArray[np.generic]]) -> None:
    assert np.abs(recorded["bilinear_6"] - recorded["bilinear-tf1_6"]).max() > 1


@given(
    height=st.integers(1, 60), width=st.integers(1, 60), rows=st.integers(1, 60), columns=st.integers(1, 60),
    half=st.booleans(),
)  # fmt: skip
def test_bilinear_equals_four_taps_a_pixel(height: int, width: int, rows: int, columns: int, half: bool) -> None:
    image = noise(height, width)
    y, x = resizing._taps(height, rows, half), resizing._taps(width, columns, half)
    corners = [[image[i[:, None], j].astype(np.float32) for j in (x.lower, x.upper)] for i in (y.lower, y.upper)]
    above, below = (left + (right - left) * x.weight[:, None] for left, right in corners)
    expected = above + (below - above) * y.weight[:, None, None]
    method = "bilinear" if half else "bilinear-tf1"
    np.testing.assert_array_equal(resize(image, rows, columns, method, "float32"), expected)
    rounded = resize(image, rows, columns, method, "uint8")
    assert rounded.dtype == np.uint8
    assert np.abs(rounded - expected).max() <= 0.5


def test_antialias_is_the_same_with_every_pillow(recorded: dict[str, NDArray[np.generic]]) -> None:
    """Pillow 13 began to resize the height first where it loses the most, which moves the rounding."""
    orders = set()
    for number in range(10):
        image, expected = recorded[f"image_{number}"], recorded[f"bilinear-antialias_{number}"]
        orders.add(resizing._height_first(image.shape[:2], expected.shape[:2]))
        np.testing.assert_array_equal(resize(image, *expected.shape[:2], "bilinear-antialias"), expected)
    assert orders == {True, False}


@AS_PILLOW_13
@given(height=st.integers(1, 80), width=st.integers(1, 80), rows=st.integers(1, 80), columns=st.integers(1, 80))
def test_antialias_is_pillows(height: int, width: int, rows: int, columns: int) -> None:
    image = noise(height, width)
    expected = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
    got = resize(image, rows, columns, "bilinear-antialias", "uint8")
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)
    unrounded = resize(image, rows, columns, "bilinear-antialias", "float32")
    assert unrounded.dtype == np.float32
    # Pillow rounds between its two passes, so twice half a level and a little for its fixed-point weights.
    assert np.abs(unrounded - expected).max() <= 1.02


@AS_PILLOW_13
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 40),
    rows=st.integers(1, 60),
    columns=st.integers(1, 60),
    strip=st.integers(1, 400),
)
def test_antialias_in_strips_is_pillows(height: int, width: int, rows: int, columns: int, strip: int) -> None:
    image = noise(height, width)
    expected = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resizing, "_STRIP_PIXELS", strip)
        np.testing.assert_array_equal(resize(image, rows, columns, "bilinear-antialias"), expected)


@AS_PILLOW_13
def test_a_large_image_is_resized_as_by_pillow() -> None:
    image = noise(2003, 1999)
    assert image.shape[0] * image.shape[1] > 2 * resizing._STRIP_PIXELS
    expected = np.asarray(Image.fromarray(image).resize((31, 160), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize(image, 160, 31, "bilinear-antialias"), expected)


@pytest.mark.parametrize("fit", ["center-crop", "pad"])
@pytest.mark.parametrize("pixels", ["uint8", "float32"])
def test_fit(fit: str, pixels: str) -> None:
    image = noise(40, 50)
    side = 9 if fit == "center-crop" else 16
    how = Preprocess(side, side, 12, 13, "bilinear", fit, pixels)
    whole = resize(image, 12, 13, "bilinear", pixels)
    got = preprocess(image, how)
    assert got.shape == (side, side, 3)
    assert got.dtype == np.dtype(pixels)
    if fit == "center-crop":
        np.testing.assert_array_equal(got, whole[1:10, 2:11])
    else:
        np.testing.assert_array_equal(got[2:14, 1:14], whole)
        assert got.sum(dtype=np.float64) == whole.sum(dtype=np.float64)
