"""Batches hold the right pixels in the right order, whatever fails, however many threads, and end when told to."""

from __future__ import annotations

import base64
import io
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from encoded import stored_size
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchcap.errors import OutOfMemoryError
from batchcap.images import discovery, files, loader
from batchcap.images.budget import Budget
from batchcap.images.decode import decode_image
from batchcap.images.loader import Batch, Loaded, load
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import PixelType, Preprocess
from batchcap.records import Failure, ImageRef

SMALL = Preprocess(6, 5, 6, 5)
# The command line silences Pillow's warnings for its process.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")


def image_bytes(seed: int) -> bytes:
    """A PNG of a size and content of its own."""
    draw = np.random.default_rng(seed)
    height, width = draw.integers(1, 20, 2)
    stream = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def planted(folder: Path, contents: list[bytes | None]) -> list[ImageRef]:
    """One file for each content; None: the file is gone when it is to be read."""
    for number, data in enumerate(contents):
        (folder / f"{number:04}.png").write_bytes(data or b"")
    refs = list(discovery.discover([folder]))
    for ref, data in zip(refs, contents, strict=True):
        if data is None:
            os.unlink(ref.file)  # noqa: PTH108
    return refs


@contextmanager
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def expected_rows(refs: list[ImageRef], how: Preprocess) -> list[np.ndarray | None]:
    rows: list[np.ndarray | None] = []
    for ref in refs:
        try:
            rows.append(preprocess(decode_image(Path(ref.file).read_bytes()), how))
        except (OSError, ValueError):
            rows.append(None)
    return rows


CONTENTS = st.lists(st.sampled_from(["good"] * 6 + ["gone", "empty", "text", "cut", "refused"]), max_size=40)


@given(
    contents=CONTENTS,
    batch_size=st.integers(1, 7),
    workers=st.integers(1, 4),
    held=st.integers(0, 2),
    pixels=st.sampled_from(["uint8", "float32"]),
)
def test_any_mix_of_images(
    tmp_path_factory: pytest.TempPathFactory,
    contents: list[str],
    batch_size: int,
    workers: int,
    held: int,
    pixels: PixelType,
) -> None:
    """Order, outcomes, rows, and the reuse of buffers while the consumer still holds up to two batches."""
    made = {"gone": None, "empty": b"", "text": b"no image"}
    data = [made[c] if c in made else image_bytes(n)[: 40 if c == "cut" else None] for n, c in enumerate(contents)]
    refs = planted(tmp_path_factory.mktemp("images"), data)
    refused = Failure("read", "permission", "as found")
    refs = [
        ImageRef(ref.path, ref.file, 0, 0, failure=refused) if content == "refused" else ref
        for ref, content in zip(refs, contents, strict=True)
    ]
    how = Preprocess(6, 5, 6, 5, pixels=pixels)
    expected = {ref.path: row for ref, row in zip(refs, expected_rows(refs, how), strict=True)}

    def check(batch: Batch) -> None:
        assert batch.pixels.shape == (batch_size, 6, 5, 3)
        assert batch.pixels.dtype == np.dtype(pixels)
        good = [ref for ref, outcome in zip(batch.refs, batch.outcomes, strict=True) if isinstance(outcome, Loaded)]
        assert batch.count == len(good) <= batch_size
        for row, ref in zip(batch.pixels, good, strict=False):
            np.testing.assert_array_equal(row, expected[ref.path])

    got: list[tuple[ImageRef, loader.Outcome]] = []
    holding: list[Batch] = []
    buffers = set()
    with no_thread_left():
        for batch in load(iter(refs), how, batch_size, workers):
            assert batch.refs
            buffers.add(batch.pixels.ctypes.data)
            got += zip(batch.refs, batch.outcomes, strict=True)
            holding.append(batch)
            for one in holding:
                check(one)
            if len(holding) > held:
                oldest = holding.pop(0)
                oldest.release()
                oldest.release()
    assert [ref for ref, _ in got] == refs
    ahead = max(2, -(-2 * workers // batch_size))
    assert len(buffers) <= ahead + 2 + held
    kinds = {"gone": "missing", "empty": "empty", "text": "unsupported", "cut": "truncated", "refused": "permission"}
    for (_, outcome), content in zip(got, contents, strict=True):
        if content in kinds:
            assert isinstance(outcome, Failure)
            assert (outcome.stage == "read") == (content in ("gone", "refused"))
            assert outcome.kind == kinds[content] or (content == "cut" and outcome.kind == "corrupt")
        else:
            assert isinstance(outcome, Loaded)


def test_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    (batch,) = load(discovery.discover([tmp_path]), SMALL, 4)
    assert batch.outcomes == (Loaded(width=30, height=40),)
    assert batch.seconds > 0
    assert (batch.pixels[1:] == 0).all()


def test_jpegs_are_decoded_as_the_bundle_says(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(noise).resize((70, 90)).save(tmp_path / "a.jpg", quality=85)
    data = (tmp_path / "a.jpg").read_bytes()
    rows = {}
    for dct in ("accurate", "fast"):
        how = Preprocess(90, 70, 90, 70, jpeg_dct=dct)
        (batch,) = load(discovery.discover([tmp_path]), how, 1)
        np.testing.assert_array_equal(batch.pixels[0], decode_image(data, dct))
        rows[dct] = batch.pixels[0]
    assert (rows["accurate"] != rows["fast"]).any()


def test_no_images_no_batches() -> None:
    with no_thread_left():
        assert list(load(iter(()), SMALL, 3)) == []


def test_a_file_that_grew_since_it_was_found_is_read_whole(tmp_path: Path) -> None:
    (ref,) = planted(tmp_path, [b"x"])
    Path(ref.file).write_bytes(image_bytes(3))
    (batch,) = load([ref], SMALL, 1)
    assert batch.count == 1


def test_a_folder_in_a_files_place_is_a_failure(tmp_path: Path) -> None:
    (ref,) = planted(tmp_path, [None])
    Path(ref.file).mkdir()
    (batch,) = load([ref], SMALL, 1)
    (outcome,) = batch.outcomes
    assert isinstance(outcome, Failure)
    assert (outcome.stage, outcome.kind) == ("read", "io")


def test_a_file_too_large_to_be_an_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as stream:
        stream.truncate(files.MAX_FILE_BYTES + 1)  # sparse: no such space is used
    (batch,) = load(discovery.discover([tmp_path]), SMALL, 1)
    (outcome,) = batch.outcomes
    assert isinstance(outcome, Failure)
    assert (outcome.stage, outcome.kind) == ("decode", "too-large")


def test_failures_alone_do_not_fill_memory() -> None:
    refused = ImageRef("a.jpg", "a.jpg", 0, 0, failure=Failure("read", "missing", "gone"))
    taken = 0

    def endless() -> Iterator[ImageRef]:
        nonlocal taken
        while True:
            taken += 1
            yield refused

    batches = load(endless(), SMALL, 4, 1)
    batch = next(batches)
    batches.close()
    assert batch.count == 0
    assert set(batch.outcomes) == {refused.failure}
    assert taken < 200


def test_refs_are_taken_only_as_far_as_needed(tmp_path: Path) -> None:
    refs = planted(tmp_path, [image_bytes(n) for n in range(60)])
    taken = 0

    def counted() -> Iterator[ImageRef]:
        nonlocal taken
        for ref in refs:
            taken += 1
            yield ref

    batches = load(counted(), SMALL, 4, 2)
    for number in range(1, 4):
        next(batches).release()
        assert taken <= 4 * (number + 2)
    batches.close()


def test_closing_early_ends_the_threads(tmp_path: Path) -> None:
    refs = planted(tmp_path, [image_bytes(n) for n in range(50)])
    with no_thread_left():
        batches = load(refs, SMALL, 3, 4)
        held = next(batches)
        copy = held.pixels.copy()
        batches.close()
        np.testing.assert_array_equal(held.pixels, copy)
        held.release()


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_an_exception_in_the_consumer_ends_the_threads(tmp_path: Path, raised: type[BaseException]) -> None:
    refs = planted(tmp_path, [image_bytes(n) for n in range(50)])
    with no_thread_left():
        batches = load(refs, SMALL, 3, 4)
        next(batches)
        with pytest.raises(raised):
            batches.throw(raised())


def test_an_exception_in_the_source_ends_the_threads(tmp_path: Path) -> None:
    refs = planted(tmp_path, [image_bytes(n) for n in range(5)])

    def breaking() -> Iterator[ImageRef]:
        yield from refs
        raise LookupError("the source broke")

    with no_thread_left(), pytest.raises(LookupError, match="broke"):
        list(load(breaking(), SMALL, 3, 2))


def test_a_bug_in_a_thread_surfaces(tmp_path: Path) -> None:
    """An impossible bundle size is no fault of an image: it must stop the run, not become a record."""
    refs = planted(tmp_path, [image_bytes(n) for n in range(30)])
    broken = Preprocess(6, 5, 7, 5)  # "stretch" to another size than the graph's
    with no_thread_left(), pytest.raises(ValueError, match="broadcast"):
        list(load(refs, broken, 4, 2))


def huge(side: int) -> bytes:
    """A PNG whose header promises side x side pixels and whose data is missing."""
    data = bytearray(image_bytes(0))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_huge_images_are_decoded_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = 9000  # 650 MB by the estimate: over the budget of two threads
    assert stored_size(huge(side)) == (side, side)
    refs = planted(tmp_path, [huge(side) if n % 3 else image_bytes(n) for n in range(24)])
    alone = threading.Lock()
    decode = decode_image

    def watched(data: bytes, dct: str) -> np.ndarray:
        if stored_size(data) != (side, side):
            return decode(data, dct)
        assert alone.acquire(blocking=False), "two huge images at once"
        try:
            return decode(image_bytes(1), dct)
        finally:
            alone.release()

    monkeypatch.setattr(loader, "decode_image", watched)
    assert sum(batch.count for batch in load(refs, SMALL, 4, 2)) == 24


def test_closing_while_threads_wait_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = planted(tmp_path, [image_bytes(0), *[huge(9000)] * 8])
    decoding, closing = threading.Event(), threading.Event()
    decode, close = decode_image, Budget.close

    def held_up(data: bytes, dct: str) -> np.ndarray:
        if len(data) and stored_size(data) == (9000, 9000):
            decoding.set()
            assert closing.wait(30)
        return decode(image_bytes(0), dct)

    def announced(budget: Budget) -> None:
        close(budget)
        closing.set()

    monkeypatch.setattr(loader, "decode_image", held_up)
    monkeypatch.setattr(Budget, "close", announced)
    with no_thread_left():
        batches = load(refs, SMALL, 1, 3)
        next(batches)
        assert decoding.wait(30)
        batches.close()


def test_names_that_are_not_utf8_are_opened(tmp_path: Path) -> None:
    name = b"caf\xe9.png"
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(image_bytes(1))
    except OSError:
        pytest.skip("names must be Unicode here")
    (batch,) = load(discovery.discover([tmp_path]), SMALL, 1)
    assert batch.count == 1
    assert batch.refs[0].path_b64 == base64.b64encode(name).decode()


def test_a_batch_that_is_too_large_for_the_memory_names_the_option(tmp_path: Path) -> None:
    """A real allocation of 3 PiB."""
    refs = planted(tmp_path, [image_bytes(1)])
    with no_thread_left(), pytest.raises(OutOfMemoryError, match=r"batches of 1,048,576 images.*PiB") as caught:
        next(load(refs, Preprocess(32_768, 32_768, 32_768, 32_768), 2**20))
    assert "--batch-size" in caught.value.fix
