"""Target imagefolder: read back by Hugging Face datasets."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from conversions import best_of, converted, counts, failure, journal, pictured, record

from batchcap.convert.json_files import NOT_UTF8
from batchcap.convert.places import IMAGE_GONE
from batchcap.convert.target_imagefolder import NOT_BELOW
from batchcap.errors import InputNotFoundError, OutputError

pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The rows of the images of a folder, as ``load_dataset`` gives them."""
    import datasets

    datasets.disable_progress_bars()

    def rows(folder: Path) -> list[dict[str, Any]]:
        files = {"train": [f"{folder}/**"]}
        return list(datasets.load_dataset("imagefolder", data_files=files, cache_dir=tmp_path / "cache")["train"])

    return rows


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_datasets_reads_it(tmp_path: Path, photos: Path, load: Any) -> None:
    """With images that have no caption, and a record whose image is gone."""
    records = pictured(photos, "a.jpg", "2019/b c.png", "test/é.jpg")
    pictured(photos, "failed.jpg")
    source = journal(tmp_path / "j", [*records, failure("failed.jpg", photos), record("gone.jpg", root=photos)])
    tally = converted(source, photos, "imagefolder")
    assert (tally.written, tally.failures, counts(tally.left_out)) == (3, 1, {IMAGE_GONE: 1})
    rows = load(photos)
    assert [row["text"] for row in rows] == [each.caption for each in records]
    assert {row["image"].size for row in rows} == {(8, 6)}
    assert rows[0]["image"].getpixel((0, 0)) != rows[1]["image"].getpixel((0, 0))
    assert rows[0].keys() == {"image", "text", "log_prob", "score", "width", "height"}
    assert rows[0]["log_prob"] == -8.31
    assert [("test/é.jpg" in note) for note in tally.notes] == [True]


@pytest.mark.parametrize("name", ["a.jpg", "latest.jpg", "contest/b.jpg", "test.jpg", "x/my-val 2.jpg", "dev/a.jpg"])
def test_names_that_datasets_takes_for_splits(tmp_path: Path, photos: Path, name: str) -> None:
    """They are told if, and only if, the captions are missing where datasets looks for splits itself."""
    import datasets

    tally = converted(journal(tmp_path / "j", pictured(photos, name)), photos, "imagefolder")
    found = datasets.load_dataset("imagefolder", data_dir=str(photos), cache_dir=tmp_path / "cache")
    [split] = found.values()
    assert bool(tally.notes) == ("text" not in split.column_names)


def test_all_captions_are_a_column(tmp_path: Path, photos: Path, load: Any) -> None:
    pictured(photos, "a.jpg", "b.jpg")
    several = best_of("a.jpg", "a dog", "a brown dog", root=photos)
    source = journal(tmp_path / "j", [several, record("b.jpg", "a cat", root=photos)])
    converted(source, photos / "metadata.jsonl", all_captions=True)
    assert [row["captions"] for row in load(photos)] == [["a dog", "a brown dog"], ["a cat"]]


def test_a_folder_above_or_below_the_root(tmp_path: Path, photos: Path, load: Any) -> None:
    """Paths are those below the folder of the file, whatever the root of the journal is."""
    source = journal(tmp_path / "j", pictured(photos, "a.jpg", "2019/b.jpg"))
    below = converted(source, photos / "2019", "imagefolder")
    assert lines(photos / "2019" / "metadata.jsonl")[0]["file_name"] == "b.jpg"
    assert (below.written, counts(below.refused), below.exit_code) == (1, {NOT_BELOW: 1}, 3)
    assert len(load(photos / "2019")) == 1
    above = converted(source, tmp_path, "imagefolder")
    assert [line["file_name"] for line in lines(tmp_path / "metadata.jsonl")] == ["photos/a.jpg", "photos/2019/b.jpg"]
    assert above.exit_code == 0
    [note] = above.notes
    assert str(photos / "2019" / "metadata.jsonl") in note


def test_a_folder_by_a_link(tmp_path: Path, photos: Path) -> None:
    source = journal(tmp_path / "j", pictured(photos, "a.jpg"))
    (tmp_path / "link").symlink_to(photos)
    assert converted(source, tmp_path / "link", "imagefolder").written == 1
    assert lines(photos / "metadata.jsonl")[0]["file_name"] == "a.jpg"


def test_what_it_cannot_name(tmp_path: Path, photos: Path) -> None:
    photos.mkdir()
    try:
        (photos / os.fsdecode(b"\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    exact = record("\ufffd.jpg", root=photos, path_b64=base64.b64encode(b"\xe9.jpg").decode())
    tally = converted(journal(tmp_path / "j", [exact]), photos, "imagefolder")
    assert (counts(tally.refused), tally.exit_code) == ({NOT_UTF8: 1}, 3)


def test_metadata_of_others_stays(tmp_path: Path, photos: Path) -> None:
    source = journal(tmp_path / "j", pictured(photos, "a.jpg"))
    theirs = '{"file_name": "a.jpg", "text": "by hand"}\n'
    (photos / "metadata.jsonl").write_text(theirs)
    with pytest.raises(OutputError, match="did not write it"):
        converted(source, photos, "imagefolder")
    assert (photos / "metadata.jsonl").read_text() == theirs
    converted(source, photos, "imagefolder", overwrite=True)
    assert converted(source, photos, "imagefolder").unchanged == 1


def test_a_journal_with_that_name(tmp_path: Path, photos: Path) -> None:
    """`batchcap run photos -o photos/metadata.jsonl` made it."""
    photos.mkdir()
    source = journal(photos / "metadata.jsonl", [])
    with pytest.raises(OutputError, match="is the journal itself"):
        converted(source, photos, "imagefolder", overwrite=True)


def test_wrong_places(tmp_path: Path, photos: Path) -> None:
    source = journal(tmp_path / "j", pictured(photos, "a.jpg"))
    with pytest.raises(OutputError, match=r"by the name metadata\.jsonl alone"):
        converted(source, photos / "captions.jsonl", "imagefolder")
    photos.rename(tmp_path / "away")
    (tmp_path / "new").mkdir()
    with pytest.raises(InputNotFoundError, match="Is a disk away"):
        converted(source, tmp_path / "new", "imagefolder")
    photos.mkdir()  # the place of a disk that is not mounted
    with pytest.raises(InputNotFoundError, match="Is a disk away"):
        converted(source, photos, "imagefolder")
    assert [*photos.iterdir()] == []
