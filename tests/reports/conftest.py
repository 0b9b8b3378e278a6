"""What the tests of reports share."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import COUNT
from photos import write_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with ``COUNT`` photos."""
    write_photos(tmp_path / "photos", COUNT)
    return tmp_path / "photos"
