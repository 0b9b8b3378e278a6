"""`--dry-run`: what it says is what the run then does, and nothing is written or locked."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from commands import invoke, on_a_terminal, records
from photos import break_photo, write_photos

from batchcap.console.dry_run import show_dry_run
from batchcap.errors import BatchcapError, MismatchError, NoImagesError, OutputError, RootError
from batchcap.options.operation import OperationOptions
from batchcap.options.run import RunOptions
from batchcap.run import pipeline
from batchcap.run.dry_run import DryRun, dry_run
from batchcap.run.figures import Summary
from batchcap.system.locks import open_locked


def options(photos: Path, output: Path | None, model: Path, **settings: Any) -> RunOptions:
    return RunOptions(inputs=(photos,), output=output, model=model, device="cpu", **settings)


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file in a folder, with its times and bytes."""
    return {
        str(file): (file.stat().st_mtime_ns, file.stat().st_ctime_ns, file.read_bytes())
        for file in folder.rglob("*")
        if file.is_file()
    }


def both(photos: Path, output: Path, model: Path, shard: str | None = None, **settings: Any) -> tuple[DryRun, Summary]:
    """What is said, and what the run then does."""
    chosen, operation = options(photos, output, model, **settings), OperationOptions(shard=shard)
    before = snapshot(output.parent)
    said = dry_run(chosen, operation=operation)
    assert snapshot(output.parent) == before
    done = pipeline.run(chosen, operation=operation)
    assert said.to_do + said.unreadable.total() == done.done
    assert said.captioned + said.failed == done.skipped
    assert said.failed == done.skipped_failures
    return said, done


def counts(said: DryRun) -> dict[str, int]:
    names = ("new", "changed", "retried", "captioned", "failed", "elsewhere")
    return {name: getattr(said, name) for name in names if getattr(said, name)} | dict(said.unreadable)


@pytest.fixture
def archive(photos: Path, output: Path, tiny_bundle: Path) -> Path:
    """Ten images with records, one of which has changed and one is broken; two new ones, and two that are away."""
    break_photo(photos / "0001.jpg")
    os.link(photos / "0003.jpg", photos / "same.jpg")
    (photos / "IMG.HEIC").touch()
    pipeline.run(options(photos, output, tiny_bundle))
    os.utime(photos / "0004.jpg", (1, 1))
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    (photos / "disk").symlink_to(photos / "not mounted")
    for name in ("new 1.jpg", "new 2.jpg"):
        (photos / name).write_bytes((photos / "0003.jpg").read_bytes())
    return photos


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"new": 2, "changed": 1, "captioned": 8, "failed": 1}),
        ({"retry_errors": ("all",)}, {"new": 2, "changed": 1, "captioned": 8, "retried": 1}),
        ({"accept_damaged": True}, {"new": 2, "changed": 1, "captioned": 8, "retried": 1}),
        ({"overwrite": True}, {"new": 12}),
        ({"shard": "1/1"}, {"new": 2, "changed": 1, "captioned": 8, "failed": 1}),
    ],
)
def test_it_says_what_the_run_does(
    settings: dict[str, Any], expected: dict[str, int], archive: Path, output: Path, tiny_bundle: Path
) -> None:
    said, done = both(archive, output, tiny_bundle, **settings)
    assert counts(said) == expected | {"missing": 1, "folder": 1}
    assert said.unread.kinds == done.unread.kinds == {".heic": 1}


def test_shards_and_limits(archive: Path, output: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    parts = [both(archive, tmp_path / f"{index}.jsonl", tiny_bundle, f"{index}/3")[0] for index in (1, 2, 3)]
    assert all(part.elsewhere == 14 - part.new - part.unreadable.total() for part in parts)
    assert sum(part.new for part in parts) == 12
    (archive / "gone.jpg").unlink()
    (archive / "disk").unlink()
    said = dry_run(options(archive, output, tiny_bundle, limit=2))
    done = pipeline.run(options(archive, output, tiny_bundle, limit=2))
    assert (said.to_do, done.captioned, done.limited) == (2, 2, True)


def test_a_record_that_was_an_error_of_reading(photos: Path, output: Path, tiny_bundle: Path) -> None:
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    pipeline.run(options(photos, output, tiny_bundle))
    (photos / "gone.jpg").unlink()
    (photos / "gone.jpg").write_bytes((photos / "0003.jpg").read_bytes())
    assert counts(both(photos, output, tiny_bundle)[0]) == {"retried": 1, "captioned": 10}


def test_other_settings(photos: Path, output: Path, tiny_bundle: Path) -> None:
    pipeline.run(options(photos, output, tiny_bundle))
    with pytest.raises(MismatchError):
        dry_run(options(photos, output, tiny_bundle), {"beam_size": 2})
    said = dry_run(options(photos, output, tiny_bundle, on_mismatch="recaption"), {"beam_size": 2})
    assert counts(said) == {"changed": 10}
    said = dry_run(options(photos, output, tiny_bundle, on_mismatch="keep"), {"beam_size": 2})
    assert counts(said) == {"captioned": 10}


def test_it_goes_on_where_a_stopped_overwrite_would(photos: Path, output: Path, tiny_bundle: Path) -> None:
    pipeline.run(options(photos, output, tiny_bundle))
    pipeline.run(options(photos, output, tiny_bundle, overwrite=True, limit=4))
    assert counts(both(photos, output, tiny_bundle, overwrite=True)[0]) == {"captioned": 4, "new": 6}


def test_a_run_that_writes_meanwhile_does_not_matter(photos: Path, output: Path, tiny_bundle: Path) -> None:
    """Its last line is not whole yet, and grows."""
    pipeline.run(options(photos, output, tiny_bundle))
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"")
    file, _ = open_locked(output)

    def write() -> None:
        for line in lines:
            for start in range(0, len(line), 40):
                file.write(line[start : start + 40])

    with file:
        writer = threading.Thread(target=write)
        writer.start()
        seen = [dry_run(options(photos, output, tiny_bundle)).captioned for _ in range(20)]
        writer.join()
        file.write(lines[0][:50])
        seen.append(dry_run(options(photos, output, tiny_bundle)).captioned)
        done = invoke("run", photos, "-o", output, "--model", tiny_bundle, "--device", "cpu", "--dry-run")
    assert seen == sorted(seen)
    assert seen[-1] == 10
    assert done.exit_code == 0
    assert output.read_bytes() == b"".join(lines) + lines[0][:50]


def refused(photos: Path, output: Path, model: Path, **settings: Any) -> BatchcapError:
    """The error of the dry run, which is that of the run."""
    found = []
    before = snapshot(photos.parent)
    for act in (dry_run, pipeline.run):
        with pytest.raises(BatchcapError) as caught:
            act(options(photos, output, model, **settings))
        found.append(caught.value)
    assert snapshot(photos.parent) == before
    assert [type(error) for error in found] == [type(found[0])] * 2
    assert str(found[0]) == str(found[1])
    return found[0]


def test_what_would_stop_the_run_stops_it_too(photos: Path, output: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    assert isinstance(refused(photos, tmp_path / "no folder" / "out.jsonl", tiny_bundle), OutputError)
    pipeline.run(options(photos, output, tiny_bundle))
    assert isinstance(refused(photos / "sub", output, tiny_bundle), RootError)
    (tmp_path / "diary.jsonl").write_text("my diary\n")
    assert isinstance(refused(photos, tmp_path / "diary.jsonl", tiny_bundle), OutputError)
    refused(photos, tmp_path / "diary.jsonl", tiny_bundle, overwrite=True)
    (tmp_path / "out.jsonl.partial").mkdir()
    refused(photos, output, tiny_bundle, overwrite=True)
    (tmp_path / "empty").mkdir()
    assert isinstance(refused(tmp_path / "empty", output, tiny_bundle), NoImagesError)


def test_an_output_that_may_not_be_written(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may write everything
    with pytest.raises(OutputError, match=r"out\.jsonl cannot be opened: Permission denied"):
        dry_run(options(photos, output, tiny_bundle))


def test_a_few_batches_are_captioned_to_estimate_the_time(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(photos / "many", 90)
    said, done = both(photos, output, tiny_bundle, batch_size=4)
    assert done.captioned == 100
    assert said.sample is not None
    assert said.seconds is not None
    assert said.sample.images == 16, "four batches after the first"
    assert said.sample.failed == 0
    assert said.sample.rate > 0
    assert said.seconds > 100 / said.sample.rate
    assert both(photos, output, tiny_bundle)[0].seconds is None
    output.unlink()
    assert both(photos, output, tiny_bundle, batch_size=64)[0].sample is None, "a part of the work that is too large"


def test_a_sample_that_fails_is_told(photos: Path, output: Path, tiny_bundle: Path) -> None:
    write_photos(photos / "many", 90)
    for photo in photos.rglob("*.jpg"):
        break_photo(photo)
    command = ["run", photos, "-o", output, "--model", tiny_bundle, "--device", "cpu", "--dry-run", "--batch-size", "4"]
    assert "measured on 16 of the images (16 failed), and " in invoke(*command).stdout


def test_the_table(archive: Path, output: Path, tiny_bundle: Path) -> None:
    arguments: Sequence[Any] = ("run", archive, "-o", output, "--model", tiny_bundle, "--device", "cpu", "--dry-run")
    done = invoke(*arguments, "--shard", "1/1", "--limit", "2")
    assert (done.exit_code, done.stderr) == (0, "")
    first, *rows = done.stdout.splitlines()
    assert first.startswith(f"Nothing was written. A run into {output}, shard 1/1, with tiny@")
    assert first.endswith(" would do this:")
    assert [row.split(None, 3) for row in rows[:4]] == [
        ["to", "caption", "2", "as many as the limit allows"],
        ["new", "2"],
        ["changed", "1"],
        ["done", "8", "skipped"],
    ]
    assert rows[4].split()[:3] == ["failed", "before", "1"]
    assert "1 folder, 1 missing" in rows[-4]
    assert rows[-2:] == ["  1 file was not read: 1 .heic.", "  Too few images to estimate the time."]
    before = records(output)
    assert invoke(*arguments, "--quiet").output == ""
    code, text = on_a_terminal(*arguments, stdout=True, columns=80)
    assert code == 0
    assert all(len(line) <= 80 for line in text.splitlines() if "\x1b" not in line)
    assert records(output) == before


def test_a_stream_has_a_dry_run_too(photos: Path, tiny_bundle: Path) -> None:
    done = invoke("run", photos, "-o", "-", "--model", tiny_bundle, "--device", "cpu", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.startswith("Nothing was written. A run into standard output with tiny@")
    assert '"path"' not in done.stdout


def test_images_that_have_only_moved(photos: Path, output: Path, tiny_bundle: Path) -> None:
    write_photos(photos / "many", 90)
    for number, photo in enumerate(sorted(photos.rglob("*.jpg"))):
        with photo.open("ab") as file:  # else some are the same
            file.write(str(number).encode())
    chosen = {"batch_size": 4, "checksum": True}
    pipeline.run(options(photos, output, tiny_bundle, **chosen))
    (photos / "many").rename(photos / "moved")
    said, done = both(photos, output, tiny_bundle, **chosen)
    assert (said.new, said.captioned, done.found_again) == (90, 10, 90)
    assert said.sample is not None
    assert (said.sample.known, said.sample.images) == (16, 16)
    assert f"({said.sample.known} need no caption" in shown(said)


def shown(said: DryRun) -> str:

    with redirect_stdout(StringIO()) as text:
        show_dry_run(said)
    return text.getvalue()


def test_of_a_run_that_watches(tmp_path: Path, output: Path, tiny_bundle: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = [
        "run",
        tmp_path / "empty",
        "-o",
        output,
        "--model",
        tiny_bundle,
        "--device",
        "cpu",
        "--dry-run",
        "--watch",
    ]
    done = invoke(*command)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "  There is nothing to do.")
    assert invoke(*command, "--limit", "1").exit_code == 2


def test_it_finds_nothing_to_do(photos: Path, output: Path, tiny_bundle: Path) -> None:
    pipeline.run(options(photos, output, tiny_bundle))
    done = invoke("run", photos, "-o", output, "--model", tiny_bundle, "--device", "cpu", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.endswith("  There is nothing to do.\n")
