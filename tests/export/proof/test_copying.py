"""The warning about a step that copies the memory for every beam."""

from __future__ import annotations

import pytest

from batchcap_export.proof.copying import copying_warning


@pytest.mark.parametrize(("cost", "told"), [(0.95, ""), (1.0, ""), (1.05, ""), (1.34, "1.3 times as slow")])
def test_only_what_is_slower_is_a_warning(cost: float, told: str) -> None:
    warning = copying_warning(cost)
    assert told in warning
    assert bool(warning) == bool(told) == warning.startswith("warning: ")
