"""How ``log_prob`` and ``score`` are rounded."""

from __future__ import annotations

import pytest

from batchcap.journal.scores import round_score, rounded
from batchcap.records import Caption


def test_a_small_score_keeps_its_digits() -> None:
    assert rounded(Caption("x", -23.9, -2.334961e-12)).score == pytest.approx(-2.334961e-12, rel=1e-3)
    assert round_score(-2.334961e-12, 6) == pytest.approx(-2.334961e-12, rel=1e-5)
    assert round_score(-1.79514, 4) == -1.7951
    assert round_score(0.0, 4) == 0
