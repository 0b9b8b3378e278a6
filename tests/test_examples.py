"""The picture of where a model looks: the part that it sees, the light, and the whole script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from bundles import build_bundle
from PIL import Image

from batchcap.preprocess import Preprocess, apply

SCRIPT = Path(__file__).parents[1] / "examples" / "attention.py"
ATTENTION = run_path(str(SCRIPT))


@pytest.mark.parametrize(
    "how",
    [
        Preprocess(24, 36, 24, 36),
        Preprocess(24, 24, 36, 48, fit="center-crop"),
        Preprocess(48, 48, 24, 36, fit="pad"),
    ],
)
def test_the_part_that_the_regions_divide(how: Preprocess) -> None:
    """The part, stretched to the graph's size, is what the graph is fed."""
    photo = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype(np.uint8).repeat(40, 0).repeat(40, 1)
    seen = ATTENTION["seen_part"](photo, how).resize((how.width, how.height), Image.Resampling.BILINEAR)
    fed = apply(photo, how).astype(np.int64)
    # Edges are filtered differently; a part that is one pixel off differs by 8 and more.
    assert np.abs(np.asarray(seen, np.int64) - fed).mean() < 3


def test_light_lies_where_the_weights_are() -> None:
    weights = np.zeros((2, 3), np.float32)
    weights[1, 2] = 1
    levels = np.asarray(ATTENTION["lit"](Image.new("RGB", (90, 60), (200, 100, 40)), weights))
    assert levels[-1, -1].tolist() == [200, 100, 40]
    # Grey, a fifth as bright.
    assert levels[0, 0] == pytest.approx(0.2 * (0.299 * 200 + 0.587 * 100 + 0.114 * 40), abs=1)
    assert np.isfinite(np.asarray(ATTENTION["lit"](Image.new("RGB", (90, 60)), np.full((2, 3), 0.5, np.float32)))).all()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_photo_becomes_a_sheet(tiny_bundle: Path, tmp_path: Path) -> None:
    photo, sheet = tmp_path / "photo.png", tmp_path / "sheet"
    Image.new("RGB", (90, 60), (250, 10, 10)).save(photo)
    done = run(photo, "-o", sheet, "--model", tiny_bundle)
    assert done.returncode == 0, done.stderr
    caption = done.stdout.split(": ", 1)[1].split()
    tiles = 1 + len(caption)
    with Image.open(sheet) as picture:
        rows = -(-tiles // ATTENTION["COLUMNS"])
        tile = round(ATTENTION["TILE_WIDTH"] * 60 / 90)
        assert picture.height > rows * tile
        assert picture.height < (rows + 1) * (tile + 60)
    plain = build_bundle(tmp_path / "plain", attention=False)
    done = run(photo, "-o", sheet, "--model", plain)
    assert done.returncode == 1
    assert "gives no attention weights" in done.stderr
    assert "Traceback" not in done.stderr
