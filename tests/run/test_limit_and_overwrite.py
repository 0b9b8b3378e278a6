"""`--limit` and `--overwrite` in whole runs, also where images fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from photos import break_photo, write_photos
from runs import lines, reports, run

from batchcap.errors import RootError


def test_the_total_respects_the_limit(photos: Path, output: Path, tiny_bundle: Path) -> None:
    seen, summary = reports(photos, output, tiny_bundle, batch_size=1, limit=3)
    assert summary.captioned == len(lines(output)) == 3
    assert [each.total for each in seen[1:]] == [3] * 2
    seen, summary = reports(photos, output, tiny_bundle, batch_size=1, limit=4)
    assert [each.total for each in seen[1:]] == [7] * 3
    seen, summary = reports(photos, output, tiny_bundle, batch_size=1, limit=40)
    assert [each.total for each in seen[1:]] == [10] * 2


def test_a_limit_gets_past_images_that_cannot_be_read(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = {str(photos / "0000.jpg"), str(photos / "0001.jpg")}
    opened = os.open

    def guarded(file: Any, *how: Any, **more: Any) -> int:  # the tests may run as root, whom no permission stops
        if str(file) in locked:
            raise PermissionError(13, "Permission denied")
        return opened(file, *how, **more)

    monkeypatch.setattr(os, "open", guarded)
    (photos / "00.jpg").symlink_to(photos / "nowhere.jpg")
    counts, compared = [], 0
    for _ in range(3):
        seen, summary = reports(photos, output, tiny_bundle, limit=2, batch_size=1)
        counts.append((summary.captioned, summary.failed, summary.safe))
        compared += len(seen[1:])
        assert all(each.total is not None and each.total >= each.done + each.skipped for each in seen[1:])
    assert compared
    assert counts == [(0, 3, 0), (2, 3, 2), (2, 3, 4)]
    assert len({record["path"] for record in lines(output)}) == len(lines(output)) == 7


def test_safe_counts_a_changed_image_once(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    for photo in photos.rglob("*.jpg"):
        os.utime(photo, (1, 1))
    summary = run(photos, output, tiny_bundle, limit=4)
    assert (summary.captioned, summary.safe) == (4, 10)


def test_overwrite_starts_anew(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    before = output.read_bytes()
    first = run(photos, output, tiny_bundle, overwrite=True, limit=4, beam_size=2)
    # Not complete: the old file stays, and the same command goes on.
    assert (first.captioned, first.safe, first.committed) == (4, 4, False)
    assert output.read_bytes() == before
    second = run(photos, output, tiny_bundle, overwrite=True, beam_size=2)
    assert (second.captioned, second.skipped, second.safe, second.committed) == (6, 4, 10, True)
    assert [record["decoding"][:5] for record in lines(output)] == ["beam2"] * 10
    assert sorted(path.name for path in output.parent.iterdir() if path.name.startswith("out")) == ["out.jsonl"]


@pytest.mark.parametrize("limit", [10, 11])
def test_a_limit_that_leaves_nothing_out_completes_the_new_output(
    photos: Path, output: Path, tiny_bundle: Path, limit: int
) -> None:
    run(photos, output, tiny_bundle, limit=2)
    summary = run(photos, output, tiny_bundle, overwrite=True, limit=limit)
    assert (summary.captioned, summary.committed) == (10, True)
    assert len(lines(output)) == 10


def test_an_unfinished_overwrite_of_other_images_is_not_mixed_in(
    photos: Path, tmp_path: Path, output: Path, tiny_bundle: Path
) -> None:
    write_photos(tmp_path / "more", 3)
    everything = {"root": tmp_path, "overwrite": True}
    run(photos, output, tiny_bundle, limit=4, **everything)
    other = run(tmp_path / "more", output, tiny_bundle, **everything)
    assert (other.captioned, other.safe) == (3, 7)
    assert {record["path"].split("/")[0] for record in lines(output)} == {"more"}
    run(photos, output, tiny_bundle, limit=4, overwrite=True)
    with pytest.raises(RootError, match=r"out\.jsonl\.partial"):
        run(tmp_path / "more", output, tiny_bundle, overwrite=True)


def test_captions_do_not_give_way_to_images_that_cannot_be_read(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, output, tiny_bundle)
    before = output.read_bytes()
    (photos / "0003.jpg").rename(photos / "away")
    (photos / "0003.jpg").symlink_to(photos / "nowhere")
    summary = run(photos, output, tiny_bundle, overwrite=True)
    assert (summary.captioned, summary.unreadable, summary.committed, summary.exit_code) == (9, 1, False, 3)
    assert output.read_bytes() == before
    (photos / "away").replace(photos / "0003.jpg")
    summary = run(photos, output, tiny_bundle, overwrite=True)
    assert (summary.captioned, summary.skipped, summary.committed, summary.exit_code) == (1, 9, True, 0)
    assert output.read_bytes() != before
    found = {record["path"]: record for record in lines(output)}
    assert len(found) == 10
    assert all("caption" in record for record in found.values())


def test_captions_do_not_give_way_to_an_empty_folder(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    before = output.read_bytes()
    photos.rename(photos.with_name("elsewhere"))
    photos.mkdir()  # a disk that is not mounted
    summary = run(photos, output, tiny_bundle, overwrite=True, allow_empty=True)
    assert (summary.committed, summary.exit_code) == (False, 0)
    assert output.read_bytes() == before


def test_a_limit_gets_past_broken_images_that_are_tried_again(photos: Path, output: Path, tiny_bundle: Path) -> None:
    for name in ("0000.jpg", "0001.jpg"):
        break_photo(photos / name)
    counts = [
        (summary.captioned, summary.failed, summary.limited)
        for summary in (run(photos, output, tiny_bundle, retry_errors=("all",), limit=4) for _ in range(3))
    ]
    assert counts == [(2, 2, True), (4, 2, True), (2, 2, False)]


def test_failures_that_remain_are_told_in_every_run(photos: Path, output: Path, tiny_bundle: Path) -> None:
    break_photo(photos / "0001.jpg")
    first = run(photos, output, tiny_bundle)
    again = run(photos, output, tiny_bundle)
    assert (first.failed, first.skipped_failures, first.exit_code) == (1, 0, 3)
    assert (again.failed, again.skipped, again.skipped_failures, again.exit_code) == (0, 10, 1, 3)
    # Of inputs that do not hold the image, nothing failed.
    other = run(photos / "0000.jpg", output, tiny_bundle, root=photos)
    assert (other.skipped, other.skipped_failures, other.exit_code) == (1, 0, 0)
