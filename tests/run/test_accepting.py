"""`--accept-damaged`: what can be decoded is captioned and marked, and images that failed before are tried again."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batchcap.options.output import Format
from batchcap.options.run import RunOptions
from batchcap.run import pipeline
from batchcap.run.figures import Summary
from batchcap.runtime.captioner import Captioner


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two whole images; one cut short, one with a hole, one of which nothing is left, one that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        grain = np.random.default_rng(number).integers(0, 256, (120, 160, 3), np.uint8)
        Image.fromarray(grain).save(folder / f"{number}.jpg", quality=90)
    data = (folder / "0.jpg").read_bytes()
    half = len(data) // 2
    (folder / "cut.jpg").write_bytes(data[:half])
    (folder / "hole.jpg").write_bytes(data[:half] + bytes(4096) + data[half + 4096 :])
    Image.open(folder / "0.jpg").save(folder / "gone.webp")
    (folder / "gone.webp").write_bytes((folder / "gone.webp").read_bytes()[:2000])
    (folder / "page.jpg").write_bytes(b"<html>not found</html>")
    return folder


def run(photos: Path, output: Path, model: Path, **settings: Any) -> Summary:
    form: Format = "csv" if output.suffix == ".csv" else "jsonl"
    options = RunOptions(inputs=(photos,), output=output, model=str(model), device="cpu", format=form, **settings)
    return pipeline.run(options)


def records(output: Path) -> dict[str, dict[str, Any]]:
    """The last record of each path."""
    return {record["path"]: record for record in map(json.loads, output.read_bytes().splitlines())}


def kinds(output: Path) -> dict[str, str]:
    return {path: record["error"]["kind"] for path, record in records(output).items() if "error" in record}


def test_by_default_they_are_errors(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    summary = run(photos, tmp_path / "out.jsonl", tiny_bundle)
    expected = {"cut.jpg": "truncated", "hole.jpg": "damaged", "gone.webp": "truncated", "page.jpg": "unsupported"}
    assert kinds(tmp_path / "out.jsonl") == expected
    assert (summary.captioned, summary.failed, summary.damaged, summary.exit_code) == (2, 4, 0, 3)
    assert all("damaged" not in record for record in records(tmp_path / "out.jsonl").values())


def test_accepted_ones_are_captioned_and_marked(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    out, plain = tmp_path / "out.jsonl", tmp_path / "plain.jsonl"
    summary = run(photos, out, tiny_bundle, accept_damaged=True)
    run(photos, plain, tiny_bundle)
    assert kinds(out) == {"gone.webp": "truncated", "page.jpg": "unsupported"}
    made = records(out)
    assert made["cut.jpg"]["damaged"] == "the file ends before the image does"
    assert "bytes inside are wrong" in made["hole.jpg"]["damaged"] or "zeros" in made["hole.jpg"]["damaged"]
    assert made["cut.jpg"]["caption"]
    assert (made["cut.jpg"]["width"], made["cut.jpg"]["height"]) == (160, 120)
    assert (summary.captioned, summary.failed, summary.damaged) == (4, 2, 2)
    assert {path: made[path] for path in ("0.jpg", "1.jpg")} == {p: records(plain)[p] for p in ("0.jpg", "1.jpg")}


def test_those_that_failed_are_tried_again_and_only_those(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(photos, out, tiny_bundle)
    before = out.read_bytes()
    summary = run(photos, out, tiny_bundle, accept_damaged=True)
    assert out.read_bytes().startswith(before)
    new = [json.loads(line)["path"] for line in out.read_bytes()[len(before) :].splitlines()]
    assert sorted(new) == ["cut.jpg", "hole.jpg"]  # of the other nothing can be had, and its error says that already
    assert (summary.captioned, summary.failed, summary.skipped) == (2, 1, 3)
    assert kinds(out) == {"gone.webp": "truncated", "page.jpg": "unsupported"}
    for settings, skipped in (({"accept_damaged": True}, 5), ({}, 6)):  # with it or without, all is settled now
        assert run(photos, out, tiny_bundle, **settings).skipped == skipped
    assert len(out.read_bytes().splitlines()) == 8


def test_a_copy_that_is_found_again_is_not_counted_among_the_captioned_ones(
    photos: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    output = tmp_path / "out.jsonl"
    damaged = run(photos, output, tiny_bundle, accept_damaged=True, checksum=True).damaged
    assert damaged > 0
    (photos / "cut.jpg").rename(photos / "moved.jpg")
    summary = run(photos, output, tiny_bundle, checksum=True)
    assert (summary.captioned, summary.found_again, summary.damaged) == (0, 1, 0)
    assert json.loads(output.read_text().splitlines()[-1])["damaged"]


def test_csv_has_a_column_for_it(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    out = tmp_path / "out.csv"
    run(photos, out, tiny_bundle, accept_damaged=True)
    with out.open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert rows["cut.jpg"]["damaged"] == "the file ends before the image does"
    assert [rows[path]["damaged"] for path in ("0.jpg", "gone.webp", "page.jpg")] == ["", "", ""]
    assert run(photos, out, tiny_bundle, accept_damaged=True).skipped == 5


def test_in_the_library(photos: Path, tiny_bundle: Path) -> None:
    captioner = Captioner.load(tiny_bundle, device="cpu")
    files: Sequence[Path] = [photos / name for name in ("0.jpg", "cut.jpg", "gone.webp")]
    strict = list(captioner.caption(files))
    assert [image.failure and image.failure.kind for image in strict] == [None, "truncated", "truncated"]
    accepted = list(captioner.caption(files, accept_damaged=True))
    assert [image.failure and image.failure.kind for image in accepted] == [None, None, "truncated"]
    assert accepted[2].failure == strict[2].failure
    assert [image.damaged for image in accepted] == [None, "the file ends before the image does", None]
    assert accepted[0] == strict[0]
    assert accepted[1].captions


def test_where_nothing_can_be_had_the_error_stays(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    image = Image.open(photos / "0.jpg").convert("RGB").resize((64, 64))
    for name, options in (("a.avif", {}), ("a.tif", {"compression": "tiff_lzw"}), ("a.jp2", {}), ("a.ico", {})):
        image.save(photos / name, **options)
        (photos / name).write_bytes((photos / name).read_bytes()[:700])
    out = tmp_path / "out.jsonl"
    run(photos, out, tiny_bundle)
    before = {path: record for path, record in records(out).items() if path[0] in "ag"}
    assert {record["error"]["kind"] for record in before.values()} == {"truncated"}
    run(photos, out, tiny_bundle, accept_damaged=True)
    after = records(out)
    for path, record in before.items():
        assert after[path] == record or "caption" in after[path], path
    assert after["a.avif"] == before["a.avif"]
    assert after["a.ico"] == before["a.ico"]
