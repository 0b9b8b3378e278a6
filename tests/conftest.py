"""Shared fixtures."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import batchcap  # noqa: F401 - before any test loads onnxruntime: it turns its telemetry off

# With --import-mode=importlib a test does not find its neighbours by itself.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to read; tests that change one build their own."""
    from bundles import build_bundle

    return build_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """Python's usual handlers, even where pytest itself runs with SIGINT ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# A busy machine makes examples slowly; that says nothing of the code.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("busy")
