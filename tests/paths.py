"""Where things lie, for tests in any folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
ROOT: Final = TESTS.parent
SHARED: Final = ROOT.parent / "shared" / "data"
"""Photos, captions and teachers that are no part of the project; tests that need them are skipped without them."""
