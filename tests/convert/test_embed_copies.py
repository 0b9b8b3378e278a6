"""--embed into copies: what others have made of a copy stays."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tagged_images
from conversions import converted, counts, journal
from embeddings import captioned, embedded

from batchcap.convert import embed_jobs
from batchcap.errors import InputNotFoundError

pytestmark = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")


def test_a_copy_that_somebody_has_worked_on_stays(tmp_path: Path) -> None:
    images = {"a.jpg": tagged_images.jpeg(), "b.jpg": tagged_images.jpeg()}
    embedded(tmp_path, images, "out")
    rated = tmp_path / "out/a.jpg"
    subprocess.run(["exiftool", "-q", "-overwrite_original", "-XMP:Rating=5", str(rated)], check=True)
    before = rated.read_bytes()
    tally = embedded(tmp_path, images, "out")
    assert (tally.written, tally.unchanged, counts(tally.left_out)) == (0, 1, {embed_jobs.EDITED: 1})
    tally = embedded(tmp_path, images, "out", caption="a new caption")
    assert (tally.written, counts(tally.left_out)) == (1, {embed_jobs.EDITED: 1})
    assert rated.read_bytes() == before
    assert embedded(tmp_path, images, "out", caption="a new caption", overwrite=True).written == 1


def test_a_newer_image_makes_a_new_copy(tmp_path: Path) -> None:
    embedded(tmp_path, {"a.jpg": tagged_images.jpeg()}, "out")
    (tmp_path / "in/a.jpg").write_bytes(tagged_images.jpeg(keywords=False))
    assert embedded(tmp_path, {"a.jpg": b""}, "out").written == 1


@pytest.mark.parametrize("grain", [100, 10_000_000, 2_000_000_000])
def test_copies_on_a_file_system_that_rounds_dates(tmp_path: Path, grain: int) -> None:
    """SMB, exFAT and FAT."""
    images = {"a.jpg": tagged_images.jpeg()}
    embedded(tmp_path, images, "out")
    date = (tmp_path / "in/a.jpg").stat().st_mtime_ns
    os.utime(tmp_path / "out/a.jpg", ns=(date, date - date % grain))
    assert date % grain
    assert embedded(tmp_path, images, "out").unchanged == 1


def test_a_folder_in_the_place_of_a_copy(tmp_path: Path) -> None:
    (tmp_path / "out/a.jpg").mkdir(parents=True)
    tally = embedded(tmp_path, {"a.jpg": tagged_images.jpeg()}, "out", overwrite=True)
    assert counts(tally.refused) == {embed_jobs.NO_FILE: 1}


@pytest.mark.parametrize("out", ["in", "out"])
def test_images_that_are_away(tmp_path: Path, out: str) -> None:
    source = journal(tmp_path / "j", captioned(tmp_path / "in", {"a.jpg": tagged_images.jpeg()}))
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(InputNotFoundError, match="Is a disk away"):
        converted(source, tmp_path / out, embed=True)
    assert not (tmp_path / "in").exists()
