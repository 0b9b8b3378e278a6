"""The image of where a model looks: the part that it sees, the light, and the whole script. The image of a run."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from bundles import build_bundle
from paths import ROOT
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import Preprocess

SCRIPT = ROOT / "examples" / "attention.py"
ATTENTION = run_path(str(SCRIPT))
DRAWING = run_path(str(SCRIPT.with_name("picture.py")))


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
    fed = preprocess(photo, how).astype(np.int64)
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
    with Image.open(sheet) as image:
        rows = -(-tiles // ATTENTION["COLUMNS"])
        tile = round(ATTENTION["TILE_WIDTH"] * 60 / 90)
        assert image.height > rows * tile
        assert image.height < (rows + 1) * (tile + 60)
    plain = build_bundle(tmp_path / "plain", attention=False)
    done = run(photo, "-o", sheet, "--model", plain)
    assert done.returncode == 1
    assert "gives no attention weights" in done.stderr
    assert "Traceback" not in done.stderr


# The image of a run in README


def test_the_image_of_a_run_asks_nobody_for_anything() -> None:
    for svg in ((SCRIPT.parent / "run.svg").read_text("utf-8"), DRAWING["SVG"]):
        assert svg.replace('xmlns="http://www.w3.org/2000/svg"', "").count("://") == 0
        for way in ("@font-face", "@import", "url(//", "href"):
            assert way not in svg


def test_what_is_left_on_the_terminal() -> None:
    """A real bar of rich, drawn twice and erased, between two lines."""
    seen = io.StringIO()
    console = Console(file=seen, force_terminal=True, width=60)
    console.print("before", style="green")
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("captioning", total=2)
        for _ in range(2):
            bar.update(task, advance=1, refresh=True)
    console.print("  after")
    assert "captioning" in seen.getvalue()
    lines = DRAWING["in_the_end"](seen.getvalue().replace("\n", "\r\n"))
    assert [Text.from_ansi(line).plain for line in lines] == ["before", "  after"]
    assert lines[0].startswith("\x1b[32m")
