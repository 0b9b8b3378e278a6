"""The program exiftool where it is missing, broken, or dies of an image."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import tagged_images
from conversions import counts
from embeddings import embedded
from journals import posix

from batchcap.errors import MissingExtraError, OutputError

DYING = """#!{python}
import os, subprocess, sys
commands = sys.stdin.buffer.read().split(b"-execute\\n")
names = [[os.path.realpath(line)[-9:] for line in command.splitlines()] for command in commands]
bad = [number for number, each in enumerate(names) if b"/in/2.jpg" in each]
if bad:
    commands = [*commands[: bad[0]], commands[bad[0]].split(b"-echo4")[0], b""]
subprocess.run(["{exiftool}", *sys.argv[1:]], input=b"-execute\\n".join(commands))
sys.exit(9 if bad else 0)
"""


def put_in_path(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "exiftool").write_text(program)
    (folder / "exiftool").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@posix
@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
def test_one_image_that_ends_exiftool_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a hostile image may: this program is exiftool until it comes to the third image, where it dies."""
    put_in_path(DYING.format(python=sys.executable, exiftool=shutil.which("exiftool")), tmp_path / "bin", monkeypatch)
    tally = embedded(tmp_path, {f"{n}.jpg": tagged_images.jpeg() for n in range(5)})
    assert (tally.written, counts(tally.refused)) == (4, {"exiftool: it ended with code 9": 1})


@posix
def test_an_exiftool_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_path("#!/bin/sh\necho no perl here >&2\nexit 2\n", tmp_path / "bin", monkeypatch)
    with pytest.raises(OutputError, match="does not run: it ended with code 2: no perl here"):
        embedded(tmp_path, {"a.jpg": tagged_images.jpeg()})


def test_without_exiftool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="apt install libimage-exiftool-perl"):
        embedded(tmp_path, {"a.jpg": tagged_images.jpeg()})
