"""What holds for every target."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from conversions import converted, failure, files, journal, pictured
from journals import FORMATS
from paths import ROOT

from batchcap.convert.convert import TARGETS
from batchcap.errors import BatchcapError, MissingExtraError, OutputError
from batchcap.options.convert import TargetName
from batchcap.options.output import Format

NAMES = get_args(TargetName)
# The others write a file.
FOLDERS = ("txt", "xmp", "webdataset", "imagefolder")


def test_the_docs_have_them_all() -> None:
    page = (ROOT / "docs" / "convert.md").read_text("utf-8")
    assert set(NAMES) <= set(TARGETS)
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) >= set(NAMES)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def place(target: TargetName, tmp_path: Path, photos: Path) -> Path:
    """OUT, as the target has it."""
    if target == "imagefolder":
        return photos
    return tmp_path / "out" / target if target in FOLDERS else tmp_path / "out" / "file"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("target", NAMES)
def test_again_is_unchanged_and_more_is_added(tmp_path: Path, photos: Path, target: TargetName, format: Format) -> None:
    """The journal and the images are only read; failures are counted; nothing temporary stays."""
    (tmp_path / "out").mkdir()
    records = pictured(photos, *(f"x/{number}.jpg" for number in range(5)))
    source = journal(tmp_path / "j", [*records[:3], failure("x/bad.jpg", photos)], format)
    before = {path: path.read_bytes() for path in (source, *photos.rglob("*.jpg"))}
    out = place(target, tmp_path, photos)
    try:
        tally = converted(source, out, target)
    except MissingExtraError as missing:
        pytest.skip(missing.message)
    assert (tally.written, tally.failures, tally.exit_code) == (3, 1, 0)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    tally = converted(source, out, target)
    assert (tally.written, tally.unchanged, tally.failures, tally.exit_code) == (0, 3, 1, 0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == stamps
    assert {path: path.read_bytes() for path in before} == before
    journal(source, [*records, failure("x/bad.jpg", photos)], format)
    tally = converted(source, out, target)
    assert tally.written + tally.unchanged == 5
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("target", [name for name in NAMES if name not in ("txt", "xmp", "webdataset")])
def test_a_journal_is_never_replaced(tmp_path: Path, photos: Path, target: TargetName, format: Format) -> None:
    """``captions.csv`` may be the table of a conversion, or the output of a run that nothing else holds."""
    source = journal(tmp_path / "j", pictured(photos, "1.jpg"))
    other = journal(photos / "metadata.jsonl", pictured(photos, "1.jpg", "2.jpg"), format)
    before = other.read_bytes()
    for overwrite in (False, True):
        try:
            with pytest.raises(OutputError, match=r"metadata\.jsonl is an output of `batchcap run`"):
                converted(source, other, target, overwrite=overwrite)
        except MissingExtraError as missing:
            pytest.skip(missing.message)
    assert other.read_bytes() == before


def test_a_file_of_another_target_stays(tmp_path: Path, photos: Path) -> None:
    source, out = journal(tmp_path / "j", pictured(photos, "1.jpg")), tmp_path / "k.json"
    converted(source, out, "kohya")
    with pytest.raises(OutputError, match=r"a conversion to this target did not write it"):
        converted(source, out, "coco")


@pytest.mark.parametrize("target", NAMES)
def test_something_else_in_the_place_is_no_bug(tmp_path: Path, photos: Path, target: TargetName) -> None:
    """A folder where a file should be, and the other way round."""
    out = tmp_path / "out"
    source = journal(tmp_path / "j", pictured(photos, "1.jpg"))
    if target in FOLDERS:
        out.write_text("theirs")
    else:
        out.mkdir()
    with pytest.raises(BatchcapError) as error:
        converted(source, out, target, overwrite=True)
    assert "captions.jsonl" not in error.value.fix  # the name of a journal
    assert files(tmp_path / "out") == {} if out.is_dir() else out.read_text() == "theirs"


@pytest.mark.parametrize("target", NAMES)
def test_an_empty_journal(tmp_path: Path, photos: Path, target: TargetName) -> None:
    photos.mkdir()
    (tmp_path / "out").mkdir()
    source = journal(tmp_path / "j.jsonl", [])
    try:
        tally = converted(source, place(target, tmp_path, photos), target)
    except MissingExtraError as missing:
        pytest.skip(missing.message)
    assert (tally.written, tally.unchanged, tally.exit_code) == (0, 0, 0)
