"""Sources by their names."""

from __future__ import annotations

from pathlib import Path

from batchcap_export.importers.sources import hook_of


def test_a_python_file_and_its_function() -> None:
    assert hook_of("a/b.py") == (Path("a/b.py"), "captioner")
    assert hook_of("a/b.py:make") == (Path("a/b.py"), "make")
    assert hook_of("a/b.keras") is None
