"""A large image that killed a run is recorded, and not tried again until somebody asks for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from photos import write_photos
from PIL import Image

from batchcap.images import loader
from batchcap.journal.large_images import LARGE, LargeImages
from batchcap.options.run import RunOptions
from batchcap.records import Failure, ImageRef, Record
from batchcap.run import pipeline
from batchcap.run.figures import Summary
from batchcap.system.output_files import own_file

# The real decoder is called, and the system ends the process while a large image is being decoded, as it does for want
# of memory.
KILLED = """
import os, signal, sys, time
from pathlib import Path
from batchcap.images import loader
from batchcap.run import pipeline
from batchcap.options.run import RunOptions
from batchcap.system.output_files import own_file
decode = loader.decode_image
def watched(data, dct):
    image = decode(data, dct)
    if image.size > 10**8:
        while sum(b"path" in line for line in Path(sys.argv[2]).read_bytes().splitlines()) < int(sys.argv[4]):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return image
loader.decode_image = watched
inputs = (Path(sys.argv[1]),)
pipeline.run(RunOptions(inputs=inputs, output=Path(sys.argv[2]), model=sys.argv[3], device="cpu", batch_size=1))
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 6)
    Image.new("RGB", (6000, 6000)).save(tmp_path / "photos" / "0004b.png")
    return tmp_path / "photos"


def run(photos: Path, output: Path, model: Path, **settings: Any) -> Summary:
    return pipeline.run(RunOptions(inputs=(photos,), output=output, model=str(model), device="cpu", **settings))


def records(output: Path) -> dict[str, dict[str, Any]]:
    return {record["path"]: record for record in map(json.loads, output.read_bytes().splitlines())}


def test_an_image_that_killed_a_run(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output, marker = tmp_path / "out.jsonl", own_file(tmp_path / "out.jsonl", "decoding")
    arguments = [sys.executable, "-c", KILLED, str(photos), str(output), str(tiny_bundle), "3"]
    for _ in range(2):  # once may be a power cut; twice is its fault
        assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
        assert "0004b.png" in marker.read_text()
    summary = run(photos, output, tiny_bundle)
    assert not marker.exists()
    assert (summary.failed, summary.exit_code) == (1, 3)
    error = records(output)["0004b.png"]["error"]
    assert (error["stage"], error["kind"]) == ("decode", "killed")
    assert "0.3 GiB" in error["message"]
    assert "--retry-errors" in error["message"]
    assert len(records(output)) == 7
    summary = run(photos, output, tiny_bundle)
    assert (summary.captioned, summary.failed, summary.skipped) == (0, 0, 7)
    summary = run(photos, output, tiny_bundle, retry_errors=("all",))
    assert (summary.captioned, summary.failed) == (1, 0)
    assert "caption" in records(output)["0004b.png"]
    assert not marker.exists()


def test_one_kill_is_not_held_against_an_image(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    arguments = [sys.executable, "-c", KILLED, str(photos), str(output), str(tiny_bundle), "3"]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    summary = run(photos, output, tiny_bundle)
    assert (summary.failed, summary.exit_code) == (0, 0)
    assert "caption" in records(output)["0004b.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "photos"]


# As the command line runs it, with a decoder that hangs while a large image is under way.
HANGING = """
import sys, time
from batchcap.cli import app as cli
from batchcap.images import loader
from batchcap.system import process
decode = loader.decode_image
def hanging(data, dct):
    image = decode(data, dct)
    if image.size > 10**8:
        time.sleep(60)
    return image
loader.decode_image = hanging
from batchcap.__main__ import main
sys.argv = ["batchcap", "run", sys.argv[1], "-o", sys.argv[2], "--model", sys.argv[3], "--device", "cpu", "--quiet"]
sys.exit(main())
"""


def test_a_user_who_forces_the_end_is_not_held_against_an_image(
    photos: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    output, marker = tmp_path / "out.jsonl", own_file(tmp_path / "out.jsonl", "decoding")
    for _ in range(2):
        running = subprocess.Popen([sys.executable, "-c", HANGING, str(photos), str(output), str(tiny_bundle)])
        end = time.monotonic() + 60
        while not marker.exists() and time.monotonic() < end:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        time.sleep(0.7)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
        assert not marker.exists()
    assert run(photos, output, tiny_bundle).failed == 0


def test_a_changed_image_is_tried_again(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    arguments = [sys.executable, "-c", KILLED, str(photos), str(output), str(tiny_bundle), "3"]
    for _ in range(2):
        subprocess.run(arguments, check=False)
    os.utime(photos / "0004b.png", (1, 1))
    assert run(photos, output, tiny_bundle).failed == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "photos"]


def test_a_run_that_ends_well_leaves_nothing(
    photos: Path, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note is there while the image is decoded, and not longer; small images have none."""
    seen: list[bool] = []
    decode = loader.decode_image

    def watched(data: bytes, dct: Any) -> Any:
        image = decode(data, dct)
        if image.size > 10**8:
            seen.append(own_file(tmp_path / "out.jsonl", "decoding").exists())
        return image

    monkeypatch.setattr(loader, "decode_image", watched)
    assert run(photos, tmp_path / "out.jsonl", tiny_bundle, workers=1).failed == 0
    assert seen == [True]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "photos"]


def ref(name: str, size: int = 9) -> ImageRef:
    return ImageRef(name, f"/{name}", size, 1)


def test_what_several_threads_note(tmp_path: Path) -> None:
    """Those that are over are forgotten; those under way at the end are known to the next run, until it says so."""
    output = tmp_path / "o.jsonl"
    first = LargeImages(output)
    first_try = first.note(ref("kept"), LARGE)
    first_try.__enter__()
    large = LargeImages(output)
    assert [each.failure for each in large.refuse([ref("kept")])] == [None]
    kept = large.note(ref("kept"), LARGE)
    kept.__enter__()
    with large.note(ref("over"), LARGE), large.note(ref("small"), LARGE - 1):
        pass
    with own_file(output, "decoding").open("ab") as file:
        file.write(b'{"key":"to')
    for _ in range(2):  # a run that is stopped before it came to the image changes nothing
        after = LargeImages(output)
    found = list(after.refuse([ref("over"), ref("kept"), ref("kept", 8), ref("small")]))
    assert [each.failure and each.failure.kind for each in found] == [None, "killed", None, None]
    after.settle([Record(path="kept", error=Failure("decode", "killed", "m"))])
    assert list(tmp_path.iterdir()) == []


def test_where_no_file_can_be_made_the_run_goes_on(tmp_path: Path) -> None:
    large = LargeImages(tmp_path / "no" / "such" / "o.jsonl")
    with large.note(ref("a"), LARGE):
        pass
    with LargeImages(None).note(ref("a"), LARGE):
        pass
