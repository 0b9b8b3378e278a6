"""A folder of photos and an output."""

from __future__ import annotations

from pathlib import Path

import pytest
from photos import write_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 10)
    return tmp_path / "photos"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"
