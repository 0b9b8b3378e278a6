"""--embed where the disk has room for few images at a time, or for none."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import tagged_images
from embeddings import embedded

from batchcap.convert import exiftool
from batchcap.errors import OutputError

pytestmark = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
IMAGES = {f"{number}.jpg": tagged_images.jpeg() for number in range(5)}


def limit(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """Let exiftool write so many images of a batch; it fails at the others as it does on a full disk."""
    run = exiftool.run

    def limited(program: str, commands: Sequence[exiftool.Command]) -> list[exiftool.Said]:
        if not any("-o" in command for command in commands):
            return run(program, commands)
        written = run(program, commands[:images]) if images else []
        return [*written, *(exiftool.Said(b"", "Error writing output file") for _ in commands[images:])]

    monkeypatch.setattr(exiftool, "run", limited)


@pytest.mark.parametrize("out", ["in", "out"])
def test_images_find_room_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    """In place, an image that is done gives its room back."""
    limit(monkeypatch, 2)
    tally = embedded(tmp_path, IMAGES, out)
    assert (tally.written, tally.refused) == (5, {})
    assert sorted(path.name for path in (tmp_path / out).iterdir()) == sorted(IMAGES)


def test_no_room_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OutputError, match="No space left on device"):
        embedded(tmp_path, IMAGES, "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_another_error_of_writing_is_that_of_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 0)
    tally = embedded(tmp_path, IMAGES, "out")
    assert {reason: found.count for reason, found in tally.refused.items()} == {
        "exiftool: Error writing output file": 5
    }
