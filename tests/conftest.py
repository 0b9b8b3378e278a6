"""Shared fixtures."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import batchcap  # noqa: F401 - before any test loads onnxruntime: it turns its telemetry off

# With --import-mode=importlib a test does not find its neighbours by itself.
sys.path.insert(0, str(Path(__file__).parent))

# A shell lets a job in the background ignore SIGINT, and so would every process that a test starts and stops by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The export stage first: its files are slow, and one that came last would keep one process busy alone."""
    items.sort(key=lambda item: "export" not in item.nodeid.split("::")[0])


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to read; tests that change one build their own."""
    from bundles import build_bundle

    return build_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """Python's usual handlers, even where pytest itself runs with SIGINT ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# A busy machine makes examples slowly; that says nothing of the code.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("busy")


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's, and a terminal that is wide and has no colours."""
    for name in [name for name in os.environ if name.startswith("BATCHCAP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def call(photos: Path, tmp_path: Path, tiny_bundle: Path) -> Callable[..., Any]:
    """`batchcap run photos -o out.jsonl --model tiny` with more options; later ones win."""
    from commands import invoke

    def run(*more: str | Path, inputs: tuple[str | Path, ...] = (photos,), output: str = "out.jsonl") -> Any:
        where = output if output == "-" else str(tmp_path / output)
        return invoke("run", *inputs, "-o", where, "--model", tiny_bundle, "--device", "cpu", *more)

    return run
