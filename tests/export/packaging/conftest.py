"""A bundle in float32 and one with variants, for tests that read them. TensorFlow is imported where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from batchcap.bundle.bundle import Bundle


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds 64 images to judge with, and 64 others to calibrate with."""
    from precisions import write_images

    folder = tmp_path_factory.mktemp("precision")
    write_images(folder / "judge", 64, seed=2)
    write_images(folder / "calibrate", 64, seed=3)
    return folder


@pytest.fixture(scope="session")
def plain(place: Path) -> Bundle:
    """Real architecture, random weights, in float32."""
    from tiny_captioner import captioner

    from batchcap_export.options.bundles import BundleOptions
    from batchcap_export.packaging.bundle_files import write_bundle

    return write_bundle(captioner(), place / "plain", BundleOptions(name="plain"), "float32")


@pytest.fixture(scope="session")
def both(plain: Bundle, place: Path) -> Bundle:
    from precisions import lower

    from batchcap_export.options.bundles import Precisions

    how = Precisions(wanted=("int8", "fp16"), calibrate=(place / "calibrate",), force=True, changed_limit=1.0)
    return lower(plain, place, place / "both", how)
