"""What TensorFlow made of images, recorded by ``tests/data/record_tf_resize.py``."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from paths import TESTS

RECORDED = TESTS / "data" / "tf_resize.npz"


@pytest.fixture(scope="module")
def recorded() -> dict[str, NDArray[np.generic]]:
    with np.load(RECORDED) as arrays:
        return dict(arrays)
