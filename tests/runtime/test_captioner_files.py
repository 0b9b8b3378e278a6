"""What is given to `Captioner.caption` may be anything with a name: it fails alone, at once, and without memory."""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchcap.errors import ImageError, OptionError
from batchcap.images import files
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices have no names there")


@pytest.fixture(scope="module")
def captioner(tiny_bundle: Path) -> Captioner:
    return Captioner.load(tiny_bundle, device="cpu", batch_size=4)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (9, 7), (200, 10, 10)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_odd_files_fail_alone(captioner: Captioner, photo: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    odd = ["a\0b.jpg", tmp_path / "pipe.jpg", "/dev/zero", tmp_path, "/dev/null", "x" * 5000]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = list(captioner.caption([photo, *odd, photo]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    kinds = [image.failure and (image.failure.stage, image.failure.kind) for image in found]
    assert kinds[0] is kinds[-1] is None
    assert kinds[1:-1] == [("read", "missing"), *[("read", "io")] * 5]
    assert [image.path for image in found] == [str(each) for each in (photo, *odd, photo)]


def test_a_pipe_in_a_files_place_is_not_waited_for(tmp_path: Path) -> None:
    """Between finding and opening anything may take the file's name."""
    os.mkfifo(tmp_path / "a.jpg")
    for name in (tmp_path / "a.jpg", "/dev/zero", tmp_path):
        with pytest.raises(ImageError) as caught:
            files.read_file(str(name))
        assert (caught.value.stage, caught.value.kind) == ("read", "io")


def test_a_file_that_grows_while_it_is_read_is_not_followed(tmp_path: Path) -> None:
    file = tmp_path / "log.jpg"
    file.write_bytes(b"x" * 1000)
    with files.opened(str(file)) as (stream, size):
        with file.open("ab") as more:
            more.write(b"y" * 100_000)
        assert files.read(stream, size) == b"x" * 1000
    with files.opened(str(file)) as (stream, size):
        os.truncate(file, 10)
        assert files.read(stream, size) == b"x" * 10


def test_files_and_arrays_share_batches(captioner: Captioner, photo: Path) -> None:
    """One after the other they filled batches of one."""
    array = np.asarray(Image.open(photo))
    encoded: list[int] = []
    encode = captioner._encoder
    captioner._encoder = lambda pixels: encoded.append(len(pixels)) or encode(pixels)  # type: ignore[method-assign]
    try:
        found = list(captioner.caption([photo, array] * 6))
    finally:
        captioner._encoder = encode  # type: ignore[method-assign]
    assert encoded == [4, 4, 4]
    assert len({image.captions for image in found}) == 1
    assert [image.path for image in found] == [str(photo), None] * 6


def test_no_thread_is_left_where_something_is_no_image(captioner: Captioner, photo: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(OptionError, match="is no image"):
        list(captioner.caption([photo, 3]))  # type: ignore[list-item]
    assert set(threading.enumerate()) <= before


def test_a_text_as_ban_is_not_its_letters(captioner: Captioner, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("two\n")
    manifest = captioner.bundle.manifest
    for more in ({}, {"ban_file": tmp_path / "words.txt"}):
        with pytest.raises(OptionError, match="is one text"):
            decoding_options(manifest, ban="dog", **more)  # type: ignore[arg-type]
    assert decoding_options(manifest, ban=["dog"], ban_file=tmp_path / "words.txt").ban == ("dog", "two")
