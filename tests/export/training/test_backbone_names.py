"""The names of backbones, which are read without loading Keras."""

from __future__ import annotations

import pytest

from batchcap_export.training.backbone_names import backbone_names

keras = pytest.importorskip("keras", reason="the export extra is not installed")


def test_the_networks_are_those_of_keras() -> None:
    assert set(backbone_names()) == {"small", *(n for n in dir(keras.applications) if n[:1].isupper())}
