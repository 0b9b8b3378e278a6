"""`--checksum`: images are known by their content, so what was moved, copied, touched or restored costs no caption."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from photos import break_photo, write_photos

from batchcap.images import files
from batchcap.journal.formats import make_codec
from batchcap.options.run import RunOptions
from batchcap.records import Record
from batchcap.reports.summary_file import stage_rates
from batchcap.run import pipeline
from batchcap.run.figures import Summary
from batchcap.runtime.captioner import Captioner

COUNT = 6


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", COUNT)
    return tmp_path / "photos"


@pytest.fixture(params=["jsonl", "csv"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"out.{request.param}"


@pytest.fixture
def captioned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through the model, batch by batch."""
    counts: list[int] = []
    real = Captioner.caption_pixels

    def counted(self: Captioner, pixels: Any, count: int, keys: Any = None) -> Any:
        counts.append(count)
        return real(self, pixels, count, keys)

    monkeypatch.setattr(Captioner, "caption_pixels", counted)
    return counts


def run(photos: Path, output: Path, model: Path, decoding: dict[str, Any] | None = None, **settings: Any) -> Summary:
    name = "csv" if output.suffix == ".csv" else "jsonl"
    chosen = {"output": output, "format": name, "model": str(model), "device": "cpu", "batch_size": 4}
    return pipeline.run(RunOptions(inputs=(photos,), **chosen | {"checksum": True} | settings), decoding)


def lines(output: Path) -> list[Record]:
    codec = make_codec("csv" if output.suffix == ".csv" else "jsonl")
    return [codec.decode(line) for line in output.read_bytes().removeprefix(codec.header).splitlines()]


def last(output: Path) -> dict[str, Record]:
    return {record.path: record for record in lines(output)}


def figures(summary: Summary) -> tuple[int, int, int]:
    return summary.captioned, summary.found_again, summary.skipped


def says(record: Record) -> tuple[object, ...]:
    """What a record says of the pixels."""
    return record.caption, record.log_prob, record.score, record.width, record.height, record.sha256


def test_records_carry_the_hash_of_the_file(photos: Path, output: Path, tiny_bundle: Path) -> None:
    break_photo(photos / "0001.jpg")
    (photos / "missing.jpg").symlink_to("nowhere")
    assert run(photos, output, tiny_bundle).failed == 2
    for record in lines(output):
        file = photos / record.path
        assert record.sha256 == (hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None)
    assert run(photos, output.with_stem("plain"), tiny_bundle, checksum=False).captioned == COUNT - 1
    assert {record.sha256 for record in lines(output.with_stem("plain"))} == {None}


def test_a_touched_image_is_hashed_once(photos: Path, output: Path, tiny_bundle: Path, captioned: list[int]) -> None:
    run(photos, output, tiny_bundle)
    before = last(output)
    os.utime(photos / "sub/0002.jpg", (1, 1))
    captioned.clear()
    assert figures(run(photos, output, tiny_bundle)) == (0, 1, COUNT - 1)
    assert sum(captioned) == 0
    after = last(output)
    assert says(after["sub/0002.jpg"]) == says(before["sub/0002.jpg"])
    assert after["sub/0002.jpg"].mtime_us == 1_000_000
    assert len(lines(output)) == COUNT + 1
    assert figures(run(photos, output, tiny_bundle)) == (0, 0, COUNT)  # the new time is noted
    assert figures(run(photos, output, tiny_bundle, checksum=False)) == (0, 0, COUNT)


def test_moved_and_copied_and_restored_images_keep_their_captions(
    photos: Path, output: Path, tiny_bundle: Path, captioned: list[int]
) -> None:
    run(photos, output, tiny_bundle)
    before = last(output)
    (photos / "new é").mkdir()
    (photos / "0000.jpg").rename(photos / "new é" / "moved,\n.jpg")
    shutil.copy(photos / "0001.jpg", photos / "copied.jpg")
    saved = (photos / "0003.jpg").read_bytes()
    (photos / "0003.jpg").unlink()
    captioned.clear()
    assert figures(run(photos, output, tiny_bundle)) == (0, 2, COUNT - 2)
    (photos / "0003.jpg").write_bytes(saved)
    assert figures(run(photos, output, tiny_bundle)) == (0, 1, COUNT)
    assert sum(captioned) == 0
    after = last(output)
    for old, new in (("0000.jpg", "new é/moved,\n.jpg"), ("0001.jpg", "copied.jpg"), ("0003.jpg", "0003.jpg")):
        assert says(after[new]) == says(before[old])
        status = (photos / new).stat()
        assert (after[new].bytes, after[new].mtime_us) == (status.st_size, status.st_mtime_ns // 1000)


def test_what_was_found_again_went_through_the_loading_alone(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    (photos / "0000.jpg").rename(photos / "moved.jpg")
    (photos / "0001.jpg").rename(photos / "moved too.jpg")
    write_photos(photos / "new", 1, (40, 30))
    summary = run(photos, output, tiny_bundle)
    assert figures(summary) == (1, 2, COUNT - 2)
    seconds, rates = summary.seconds, stage_rates(summary)
    assert rates["load"] == pytest.approx(3 / seconds.load, rel=0.01)
    assert rates["encode"] == pytest.approx(1 / seconds.encode, rel=0.01)


def test_other_content_is_captioned(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    first, second = ((photos / name).read_bytes() for name in ("0000.jpg", "0001.jpg"))
    write_photos(photos.parent / "others", COUNT + 1)
    new = next(
        file.read_bytes() for file in sorted((photos.parent / "others").rglob("*.jpg")) if file.name == "0006.jpg"
    )
    assert new not in (first, second)
    (photos / "0000.jpg").write_bytes(new)
    (photos / "0001.jpg").write_bytes(first)
    summary = run(photos, output, tiny_bundle)
    assert figures(summary) == (1, 1, COUNT - 2)
    fresh = output.with_stem("fresh")
    run(photos, fresh, tiny_bundle)
    assert {path: says(record) for path, record in last(output).items()} == {
        path: says(record) for path, record in last(fresh).items()
    }


def test_records_without_a_hash_get_one_and_keep_their_caption(
    photos: Path, output: Path, tiny_bundle: Path, captioned: list[int]
) -> None:
    break_photo(photos / "0001.jpg")
    run(photos, output, tiny_bundle, checksum=False)
    before = last(output)
    captioned.clear()
    summary = run(photos, output, tiny_bundle)
    assert figures(summary) == (0, COUNT - 1, 1)
    assert (sum(captioned), summary.exit_code) == (0, 3)
    for path, record in last(output).items():
        assert (record.caption, record.error) == (before[path].caption, before[path].error)
        assert (record.sha256 is None) == (path == "0001.jpg")
    (photos / "sub/0002.jpg").rename(photos / "moved.jpg")
    assert figures(run(photos, output, tiny_bundle)) == (0, 1, COUNT - 1)


def test_captions_of_other_settings_are_none_for_a_content(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    (photos / "0000.jpg").rename(photos / "moved.jpg")
    other = {"max_length": 2}
    kept = run(photos, output, tiny_bundle, other, on_mismatch="keep")
    assert figures(kept) == (1, 0, COUNT - 1)
    assert figures(run(photos, output, tiny_bundle, other, on_mismatch="recaption")) == (COUNT - 1, 0, 1)


def test_what_is_sampled_depends_on_the_name_so_only_the_same_image_is_found_again(
    photos: Path, output: Path, tiny_bundle: Path
) -> None:
    sampled = {"search": "sample", "seed": 3}
    run(photos, output, tiny_bundle, sampled)
    os.utime(photos / "0000.jpg", (1, 1))
    (photos / "0001.jpg").rename(photos / "moved.jpg")
    assert figures(run(photos, output, tiny_bundle, sampled)) == (1, 1, COUNT - 2)
    fresh = output.with_stem("fresh")
    run(photos, fresh, tiny_bundle, sampled)
    found = last(output)
    assert {path: says(found[path]) for path in last(fresh)} == {
        path: says(record) for path, record in last(fresh).items()
    }


def test_broken_images_are_decoded_again_and_their_error_is_noted(
    photos: Path, output: Path, tiny_bundle: Path
) -> None:
    break_photo(photos / "0001.jpg")
    run(photos, output, tiny_bundle)
    os.utime(photos / "0001.jpg", (1, 1))
    summary = run(photos, output, tiny_bundle)
    assert (summary.failed, summary.found_again) == (1, 0)
    assert run(photos, output, tiny_bundle).done == 0


def test_changed_images_that_are_to_be_skipped_are_not_read(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    os.utime(photos / "0000.jpg", (1, 1))
    assert figures(run(photos, output, tiny_bundle, if_changed="skip")) == (0, 0, COUNT)


def test_all_of_the_best_captions_are_found_again(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "n.jsonl"
    several = {"num_captions": 2}
    run(photos, output, tiny_bundle, several)
    (photos / "0000.jpg").rename(photos / "moved.jpg")
    assert run(photos, output, tiny_bundle, several).found_again == 1
    assert last(output)["moved.jpg"].captions == last(output)["0000.jpg"].captions


def test_a_file_that_is_replaced_while_it_is_looked_up_gets_no_caption_of_the_old_one(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record has no hash yet, and the file that is hashed is no longer the one whose size and time were seen."""
    run(photos, output, tiny_bundle, checksum=False)
    before = last(output)["0001.jpg"]
    real = files.opened

    def replaced(file: str) -> Any:
        if file.endswith("0000.jpg"):
            shutil.copy2(photos / "0001.jpg", file)
        return real(file)

    monkeypatch.setattr(files, "opened", replaced)
    summary = run(photos, output, tiny_bundle)
    assert figures(summary) == (1, COUNT - 1, 0)
    after = last(output)["0000.jpg"]
    assert says(after)[:-1] == says(before)[:-1]
    assert after.sha256 == hashlib.sha256((photos / "0001.jpg").read_bytes()).hexdigest()
