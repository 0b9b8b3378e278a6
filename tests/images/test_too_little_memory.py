"""Where an allocation fails, no image is to blame."""

from __future__ import annotations

from pathlib import Path

import pytest
import simplejpeg
from PIL import Image

from batchcap.images import discovery
from batchcap.images.loader import load
from batchcap.images.preprocess import Preprocess
from batchcap.records import Failure


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("Insufficient memory (case 4)"), "read memory"),
        (RuntimeError("could not create JPEG decoder"), "read memory"),
    ],
)
@pytest.mark.parametrize("function", ["decode_jpeg", "decode_jpeg_header"])
def test_too_little_memory_for_a_jpeg_is_no_fault_of_the_image(
    function: str, error: Exception, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What libjpeg and simplejpeg say where an allocation fails: it was called damaged, or stopped the run."""
    Image.new("RGB", (90, 70)).save(tmp_path / "a.jpg")

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(simplejpeg, function, fails)
    (batch,) = load(discovery.discover([tmp_path]), Preprocess(6, 5, 6, 5), 1)
    (outcome,) = batch.outcomes
    assert isinstance(outcome, Failure)
    assert f"{outcome.stage} {outcome.kind}" == kind
