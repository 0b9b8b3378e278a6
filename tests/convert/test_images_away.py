"""Images that are not there, cannot be read or cannot be named: nothing is emptied, and the exit code says it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conversions import converted, counts, journal, pictured, record
from journals import posix

from batchcap.convert.places import IMAGE_GONE, NO_NAME
from batchcap.errors import InputNotFoundError
from batchcap.options.convert import TargetName

NEED_IMAGES: tuple[TargetName, ...] = ("kohya", "imagefolder", "webdataset")
BESIDE: tuple[TargetName, ...] = ("txt", "xmp")


def outputs(tmp_path: Path, target: TargetName) -> Path:
    return tmp_path / ("metadata.jsonl" if target == "imagefolder" else "out")


@pytest.mark.parametrize("is_mounted", [True, False])
@pytest.mark.parametrize("target", NEED_IMAGES)
def test_a_disk_that_is_away_empties_nothing(tmp_path: Path, target: TargetName, is_mounted: bool) -> None:
    """A disk that is not mounted leaves an empty folder behind, or none."""
    photos = tmp_path / "photos"
    source = journal(tmp_path / "j", pictured(photos, "a.jpg", "b.jpg"))
    out = outputs(tmp_path, target)
    converted(source, out, target)
    shutil.rmtree(photos)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    if is_mounted:
        photos.mkdir()
    with pytest.raises(InputNotFoundError, match="Is a disk away"):
        converted(source, out, target)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("is_mounted", [True, False])
@pytest.mark.parametrize("target", BESIDE)
def test_a_root_that_is_away_is_not_made(tmp_path: Path, target: TargetName, is_mounted: bool) -> None:
    photos = tmp_path / "photos"
    source = journal(tmp_path / "j", pictured(photos, "a.jpg"))
    shutil.rmtree(photos)
    if is_mounted:
        photos.mkdir()
    with pytest.raises(InputNotFoundError, match="Is a disk away"):
        converted(source, photos, target)
    assert photos.exists() == is_mounted
    assert converted(source, tmp_path / "mirror", target).written == 1


@posix
@pytest.mark.parametrize("target", NEED_IMAGES)
def test_an_image_that_cannot_be_read_is_not_gone(tmp_path: Path, target: TargetName) -> None:
    photos = tmp_path / "photos"
    source = journal(tmp_path / "j", [*pictured(photos, "a.jpg"), record("b.jpg", root=photos)])
    (photos / "b.jpg").symlink_to("b.jpg")
    tally = converted(source, outputs(tmp_path, target), target)
    assert (tally.written, tally.left_out, tally.exit_code) == (1, {}, 3)
    assert next(iter(tally.refused)).startswith("the image cannot be read: ")


@pytest.mark.parametrize("target", [*NEED_IMAGES, *BESIDE])
def test_names_that_no_file_can_have(tmp_path: Path, target: TargetName) -> None:
    """Zeros in a table, and what is no Base64: another program has damaged the journal."""
    records = pictured(tmp_path / "photos", "a.jpg")
    odd = [record("b\0.jpg", root=tmp_path / "photos"), record("c.jpg", root=tmp_path / "photos", path_b64="a")]
    tally = converted(journal(tmp_path / "j", [*records, *odd]), outputs(tmp_path, target), target)
    assert (tally.written, counts(tally.refused)) == (1, {NO_NAME: 2})


def test_stems_of_images_that_are_gone_are_free(tmp_path: Path) -> None:
    """An image that was made another format of; and names that kohya cannot take in any case."""
    photos = tmp_path / "photos"
    records = [record("a.jpg", root=photos), *pictured(photos, "a.png")]
    tally = converted(journal(tmp_path / "j", records), tmp_path / "out", "kohya", image_key="stem")
    assert (tally.written, counts(tally.left_out)) == (1, {IMAGE_GONE: 1})
    assert '"a":' in (tmp_path / "out").read_text()
