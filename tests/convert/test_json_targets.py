"""Targets coco and kohya: read back by pycocotools and by the rules of kohya's code."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from conversions import best_of, converted, counts, failure, journal, pictured, record

from batchcap.convert.json_files import NOT_UTF8
from batchcap.convert.places import IMAGE_GONE, OUTSIDE
from batchcap.convert.target_coco import NO_NUMBER, NOT_ANNOTATED
from batchcap.errors import DuplicateKeyError, InputNotFoundError, OptionError, OutputError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.json"


# COCO


def annotations(file: Path, ids: dict[str, int]) -> Path:
    """As captions_val2014.json is, with a reference an image."""
    made = {
        "info": {},
        "images": [{"id": number, "file_name": name, "height": 6, "width": 8} for name, number in ids.items()],
        "annotations": [
            {"id": place, "image_id": number, "caption": f"a reference of {name}"}
            for place, (name, number) in enumerate(ids.items())
        ],
    }
    file.write_text(json.dumps(made))
    return file


def test_coco_tools_read_the_results(tmp_path: Path, out: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    names = {"val2014/COCO_val2014_000000391895.jpg": 391895, "val2017/000000000139.jpg": 139}
    source = journal(tmp_path / "j", [*map(record, names), failure("000000000285.jpg")])
    tally = converted(source, out, "coco")
    assert (tally.written, tally.failures, tally.exit_code) == (2, 1, 0)
    ids = {name.rpartition("/")[2]: number for name, number in names.items()} | {"000000000285.jpg": 285}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(annotations(tmp_path / "a.json", ids))
        results = truth.loadRes(str(out))
    assert {each["image_id"]: each["caption"] for each in results.dataset["annotations"]} == {
        number: f"an image of {name}" for name, number in names.items()
    }


def test_coco_scores_the_results(tmp_path: Path, out: Path) -> None:
    """As pycocoevalcap does it, but for its tokenizer, which needs Java."""
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    coco = pytest.importorskip("pycocotools.coco")
    converted(journal(tmp_path / "j", [record("1.jpg", "a reference of 1.jpg"), record("2.jpg", "a dog")]), out, "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(annotations(tmp_path / "a.json", {"1.jpg": 1, "2.jpg": 2, "3.jpg": 3}))
        results = truth.loadRes(str(out))
    pairs: Any = [
        {number: [each["caption"] for each in found.imgToAnns[number]] for number in results.getImgIds()}
        for found in (truth, results)
    ]
    _, scores = cider.Cider().compute_score(*pairs)
    assert scores[0] > scores[1]


def test_ids_of_an_annotations_file(tmp_path: Path, out: Path) -> None:
    ids = annotations(tmp_path / "a.json", {"a.jpg": 7, "x/b.jpg": 8, "b.jpg": 9})
    records = [record("2019/a.jpg"), record("x/b.jpg"), record("y/b.jpg"), record("c_5.jpg")]
    tally = converted(journal(tmp_path / "j", records), out, "coco", image_ids=ids)
    assert [each["image_id"] for each in json.loads(out.read_text())] == [7, 8, 9]
    assert (counts(tally.left_out), tally.exit_code) == ({NOT_ANNOTATED: 1}, 0)


def test_names_without_a_number(tmp_path: Path, out: Path) -> None:
    names = ["6af2c1449a8.jpg", "a.jpg", "9.8.jpg", "²_².jpg", f"{10**20}.jpg", "x-12"]
    tally = converted(journal(tmp_path / "j", map(record, names)), out, "coco")
    assert [each["image_id"] for each in json.loads(out.read_text())] == [12]
    assert (counts(tally.refused), tally.exit_code) == ({NO_NUMBER: 5}, 3)


def test_two_images_with_one_id_are_told_first(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("x/IMG_0001.jpg"), record("y/IMG_1.jpg")])
    with pytest.raises(DuplicateKeyError, match=r"x/IMG_0001\.jpg, y/IMG_1\.jpg.*--image-ids FILE"):
        converted(source, out, "coco")
    assert not out.exists()


def test_a_wrong_annotations_file(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("1.jpg")])
    with pytest.raises(InputNotFoundError, match=r"no file .*a\.json"):
        converted(source, out, "coco", image_ids=tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"images": [{"id": "x"}]}')
    with pytest.raises(OptionError, match="no annotations file of COCO"):
        converted(source, out, "coco", image_ids=tmp_path / "a.json")
    with pytest.raises(OptionError, match="says nothing to the target csv"):
        converted(source, out, "csv", image_ids=tmp_path / "a.json")


def test_no_caption_at_all_is_an_empty_list(tmp_path: Path, out: Path) -> None:
    assert converted(journal(tmp_path / "j", [failure("1.jpg")]), out, "coco").failures == 1
    assert json.loads(out.read_text()) == []
    assert converted(journal(tmp_path / "j", [record("1.jpg")]), out, "coco").written == 1


# kohya

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def fine_tuning(metadata: Path, image_dir: Path) -> dict[str, str]:
    """The captions by image that kohya trains on, as FineTuningDataset of its train_util finds them."""
    found = {}
    for key, image in json.loads(metadata.read_text(encoding="utf-8")).items():
        path = Path(key) if Path(key).exists() else None
        if path is None:
            paths = [each for ending in EXTENSIONS if (each := Path(f"{image_dir}/{key}{ending}")).exists()]
            assert paths, f"no image: {key}"
            path = paths[0]
        found[path.relative_to(image_dir).as_posix()] = image["caption"]
    return found


@pytest.mark.parametrize("key", ["path", "stem"])
def test_kohya_finds_every_caption(tmp_path: Path, out: Path, key: str) -> None:
    photos = tmp_path / "photos"
    records = pictured(photos, "a.jpg", "2019/b.c [1].png", 'q"uote.jpg')
    source = journal(tmp_path / "j", [*records, record("gone.jpg", root=photos), failure("bad.jpg", photos)])
    tally = converted(source, out, "kohya", image_key=key)
    assert fine_tuning(out, photos) == {each.path: each.caption for each in records}
    assert (tally.failures, counts(tally.left_out), tally.exit_code) == (1, {IMAGE_GONE: 1}, 0)


def test_kohya_takes_one_of_several_captions(tmp_path: Path, out: Path) -> None:
    photos = tmp_path / "photos"
    pictured(photos, "a.jpg")
    source = journal(tmp_path / "j", [best_of("a.jpg", "a dog", "a brown dog", root=photos)])
    converted(source, out, "kohya")
    assert fine_tuning(out, photos) == {"a.jpg": "a dog"}
    converted(source, out, "kohya", all_captions=True)
    assert fine_tuning(out, photos)["a.jpg"].split("\n") == ["a dog", "a brown dog"]


def test_stems_that_are_not_unique(tmp_path: Path, out: Path) -> None:
    photos = tmp_path / "photos"
    source = journal(tmp_path / "j", pictured(photos, "a.jpg", "a.png"))
    with pytest.raises(DuplicateKeyError, match="--image-key path"):
        converted(source, out, "kohya", image_key="stem")
    assert converted(source, out, "kohya").written == 2


def test_what_kohya_cannot_name(tmp_path: Path, out: Path) -> None:
    photos, other = tmp_path / "photos", tmp_path / "other"
    [outside] = pictured(other, "a.jpg")
    photos.mkdir()
    try:
        (photos / os.fsdecode(b"\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system has no such names")
    exact = record("\ufffd.jpg", root=photos, path_b64=base64.b64encode(b"\xe9.jpg").decode())
    away = record(f"{other}/a.jpg", outside.caption, root=photos)
    source = journal(tmp_path / "j", [exact, away])
    tally = converted(source, out, "kohya", image_key="stem")
    assert (counts(tally.refused), tally.exit_code) == ({NOT_UTF8: 1, OUTSIDE: 1}, 3)
    assert converted(source, out, "kohya").written == 1


def test_metadata_that_kohya_has_completed_stays(tmp_path: Path, out: Path) -> None:
    """Its next scripts add tags and sizes, and indent the file."""
    photos = tmp_path / "photos"
    source = journal(tmp_path / "j", pictured(photos, "a.jpg"))
    converted(source, out, "kohya")
    out.write_text(
        json.dumps({key: each | {"tags": "1dog"} for key, each in json.loads(out.read_text()).items()}, indent=2)
    )
    with pytest.raises(OutputError, match="did not write it"):
        converted(source, out, "kohya")
    assert "1dog" in out.read_text()


def test_a_disk_that_is_away_is_no_empty_file(tmp_path: Path, out: Path) -> None:
    photos = tmp_path / "photos"
    source = journal(tmp_path / "j", pictured(photos, "a.jpg"))
    converted(source, out, "kohya")
    before = out.read_bytes()
    photos.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(InputNotFoundError, match=r"no folder .*photos.*Is a disk away"):
            converted(source, out, "kohya")
        assert out.read_bytes() == before
        photos.mkdir(exist_ok=True)  # the place of a disk that is not mounted
