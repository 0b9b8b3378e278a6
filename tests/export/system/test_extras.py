"""An extra that is not installed is named."""

from __future__ import annotations

import sys

import pytest

from batchcap.errors import MissingExtraError
from batchcap_export.system import extras


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(MissingExtraError, match=r"Scores need pycocoevalcap .*batchcap\[export,eval\]"):
        extras.need_modules("pycocoevalcap")
