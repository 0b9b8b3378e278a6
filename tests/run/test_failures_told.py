"""`--fail-on` and `--max-failures`: which failures of images the exit code tells, and how many end a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commands import invoke, records
from journals import failed, ref
from photos import break_photo, write_photos

from batchcap.errors import OptionError, TooManyFailuresError
from batchcap.options.operation import FailOn, MaxFailures, OperationOptions
from batchcap.options.run import RunOptions
from batchcap.records import Failure
from batchcap.run import pipeline
from batchcap.run.failure_limit import FailureLimit
from batchcap.run.figures import Summary


def run(photos: Path, output: Path | None, model: Path, **settings: Any) -> Summary:
    operation = OperationOptions(
        **{name: settings.pop(name) for name in ("fail_on", "max_failures") if name in settings}
    )
    options = RunOptions(inputs=(photos,), output=output, model=model, device="cpu", **settings)
    return pipeline.run(options, operation=operation)


def codes(photos: Path, output: Path, model: Path, **settings: Any) -> dict[FailOn, int]:
    """The exit codes of the same run with each choice, on copies of the output."""
    before = output.read_bytes() if output.exists() else b""
    found: dict[FailOn, int] = {}
    choices: tuple[FailOn, ...] = ("any", "new", "none")
    for choice in choices:
        output.write_bytes(before)
        found[choice] = run(photos, output, model, fail_on=choice, **settings).exit_code
    return found


def test_new_failures_are_told_once(photos: Path, output: Path, tiny_bundle: Path) -> None:
    assert codes(photos, output, tiny_bundle) == {"any": 0, "new": 0, "none": 0}
    break_photo(photos / "0001.jpg")
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    assert codes(photos, output, tiny_bundle) == {"any": 3, "new": 3, "none": 0}
    assert codes(photos, output, tiny_bundle) == {"any": 3, "new": 0, "none": 0}
    assert codes(photos, output, tiny_bundle, retry_errors=("all",)) == {"any": 3, "new": 0, "none": 0}
    os.utime(photos / "0001.jpg", (9, 9))  # saved again, and as broken as it was
    assert codes(photos, output, tiny_bundle) == {"any": 3, "new": 0, "none": 0}
    (photos / "0001.jpg").write_bytes(b"")  # broken in another way
    assert codes(photos, output, tiny_bundle) == {"any": 3, "new": 3, "none": 0}


def test_a_caption_that_was_there_makes_a_failure_new(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    (photos / "0001.jpg").unlink()
    (photos / "0001.jpg").symlink_to(photos / "nowhere.jpg")
    assert codes(photos, output, tiny_bundle) == {"any": 3, "new": 3, "none": 0}
    assert codes(photos, output, tiny_bundle)["new"] == 3, "its caption is kept, so nothing says that it was told"


def test_without_an_output_every_failure_is_new(photos: Path, tiny_bundle: Path) -> None:
    break_photo(photos / "0001.jpg")
    arguments = ["run", photos, "-o", "-", "--model", tiny_bundle, "--device", "cpu", "--fail-on"]
    assert [invoke(*arguments, choice).exit_code for choice in ("any", "new", "none")] == [3, 3, 0]


def test_errors_of_the_run_itself_are_always_told(photos: Path, output: Path, tiny_bundle: Path) -> None:
    done = invoke("run", photos / "nowhere", "-o", output, "--model", tiny_bundle, "--fail-on", "none")
    assert done.exit_code == 1


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_a_run_stops_at_the_first_failure_too_many(
    batch_size: int, photos: Path, output: Path, tiny_bundle: Path
) -> None:
    """And writes no more, however large its batches are."""
    write_photos(photos / "many", 30)
    for photo in sorted((photos / "many").rglob("*.jpg"))[5:]:
        break_photo(photo)
    with pytest.raises(TooManyFailuresError) as caught:
        run(photos, output, tiny_bundle, max_failures="3", batch_size=batch_size)
    written = records(output)
    assert sum("error" in record for record in written) == 4
    assert sum("caption" in record for record in written) in range(4, 16)
    assert caught.value.exit_code == 1
    assert f"4 of {len(written)} images failed, more than --max-failures 3 allows (4 decode, truncated)." in str(
        caught.value
    )
    assert written[-1]["path"].startswith("many/")
    assert "Look at some of these images with another program" in caught.value.fix
    # What has failed is not tried again; the others are.
    assert run(photos, output, tiny_bundle, max_failures="21").exit_code == 3
    assert len({json.dumps(record["path"]) for record in records(output)}) == 40


def test_kinds_of_failures_are_told_apart() -> None:
    limit = FailureLimit(MaxFailures(count=2))
    errors = (Failure("decode", "truncated", "it ends"), Failure("decode", "empty", "no bytes"))
    limit.within([msgspec.structs.replace(failed(ref(name)), error=errors[name == "c"]) for name in "abc"])
    with pytest.raises(TooManyFailuresError, match=r"allows \(2 decode, truncated; 1 decode, empty\)"):
        limit.check()


def test_a_disk_that_is_away_ends_the_run(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def guarded(file: Any, *how: Any, **more: Any) -> int:
        if str(file).endswith(".jpg"):
            raise OSError(5, "Input/output error")
        return opened(file, *how, **more)

    monkeypatch.setattr(os, "open", guarded)
    done = invoke("run", photos, "-o", output, "--model", tiny_bundle, "--device", "cpu", "--max-failures", "2", "-q")
    assert done.exit_code == 1
    assert (
        "Too many images failed: 3 of 3 images failed, more than --max-failures 2 allows (3 read, io)." in done.stderr
    )
    assert "The first: 0000.jpg: Input/output error" in done.stderr
    assert "Look whether the disk or folder is mounted" in done.stderr
    assert len(records(output)) == 3
    again = invoke("run", photos, "-o", output, "--model", tiny_bundle, "--device", "cpu", "--max-failures", "2", "-q")
    assert again.stderr == done.stderr, "nothing is better yet"
    assert len(records(output)) == 3


def test_a_share_counts_from_a_hundred_images_on(tmp_path: Path, output: Path, tiny_bundle: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 120)
    names = sorted(photos.rglob("*.jpg"))
    for photo in names[:20]:
        break_photo(photo)
    assert run(photos, None, tiny_bundle, max_failures="20%").exit_code == 3
    with pytest.raises(TooManyFailuresError, match=r"20 of 100 images failed, more than --max-failures 19\.5% allows"):
        run(photos, output, tiny_bundle, max_failures="19.5%")
    assert len(records(output)) == 100
    for photo in names[101:]:
        photo.unlink()
    assert run(photos, output, tiny_bundle, max_failures="0%").exit_code == 3, "one new image, captioned"


@pytest.mark.parametrize(
    ("text", "limit"),
    [("0", MaxFailures(count=0)), ("500", MaxFailures(count=500)), ("2.5%", MaxFailures(percent=2.5))],
)
def test_limits(text: str, limit: MaxFailures) -> None:
    assert OperationOptions(max_failures=text).failure_limit == limit
    assert str(limit) == text


@pytest.mark.parametrize("text", ["", "-1", "101%", "5 %", "%", "many", "1e3", "0.5", "٣"])
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match=r"--max-failures .*: must be a number of images, or a percentage"):
        OperationOptions(max_failures=text)
