"""Shared fixtures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# With --import-mode=importlib a test does not find its neighbours by itself.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to read; tests that change one build their own."""
    from bundles import build_bundle

    return build_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
