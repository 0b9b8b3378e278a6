"""What batchcap does not read is named, with what would read it."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from batchcap.errors import ImageError
from batchcap.images import kinds
from batchcap.images.decode import decode_image

pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert (caught.value.stage, caught.value.kind) == ("decode", "unsupported")
    return caught.value.message


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def a_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.jpg", b"x" * 99)
    return stream.getvalue()


def a_tar(mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    return stream.getvalue()


def boxed(brand: bytes, *others: bytes) -> bytes:
    return struct.pack(">I4s4sI", 16 + 4 * len(others), b"ftyp", brand, 0) + b"".join(others) + bytes(600)


@pytest.mark.parametrize(
    ("data", "name", "reader"),
    [
        (boxed(b"heic", b"mif1"), "HEIC", "heif-convert"),
        (boxed(b"mif1", b"heic"), "HEIC", "heif-convert"),
        (boxed(b"crx ", b"isom"), "Canon CR3", "darktable"),
        (boxed(b"qt  "), "QuickTime", "ffmpeg"),
        (boxed(b"isom", b"mp42"), "MP4", "ffmpeg"),
        (a_zip(), "zip archive", "Unpack it"),
        (a_tar("w"), "tar archive", "Unpack it"),
        (a_tar("w:gz"), "gzip", "Unpack it"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(99), "Fujifilm", "darktable"),
        (b"\xff\x0a\xfa\x1f" + bytes(99), "JPEG XL", "djxl"),
        (b"8BPS\0\1" + bytes(99), "Photoshop", "ImageMagick"),
        (b"%PDF-1.7\n", "PDF", "pdftoppm"),
        (b"\n<!DOCTYPE html><html><title>404</title>", "web page", "Save the image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (bytes(5000), "zeros", ""),
    ],
)
def test_other_files_are_named(data: bytes, name: str, reader: str) -> None:
    message = refusal(data)
    assert name in message
    assert reader in message


def tiff(entries: dict[int, tuple[int, ...]], order: str = "<", head: bytes = b"") -> bytes:
    """A TIFF directory of short values, and some pixels."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(head)) + head
    listed, far = b"", b""
    place = len(start) + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            packed, far = struct.pack(order + "I", place + len(far)), far + packed
        listed += struct.pack(order + "HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    return start + struct.pack(order + "H", len(entries)) + listed + bytes(4) + far + bytes(600)


PLAIN = {256: (4,), 257: (4,), 258: (8, 8, 8), 259: (1,), 262: (2,), 273: (200,), 277: (3,), 278: (4,), 279: (48,)}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("entries", "name"),
    [
        (PLAIN | {50706: (1, 4)}, "DNG"),
        (PLAIN | {262: (32803,), 277: (1,), 258: (14,)}, "camera raw"),
        (PLAIN | {271: (78, 105), 254: (1,)}, "preview"),
    ],
)
def test_raw_files_in_tiffs_clothes(entries: dict[int, tuple[int, ...]], name: str, order: str) -> None:
    assert name in refusal(tiff(entries, order))
    assert "darktable" in refusal(tiff(entries, order))


def test_canon_raw() -> None:
    assert "Canon CR2" in refusal(tiff(PLAIN, head=b"CR\2\0"))


def test_a_plain_tiff_is_read() -> None:
    """The same directory without what makes a raw file of it."""
    assert decode_image(tiff(PLAIN)).shape == (4, 4, 3)
    assert decode_image(tiff(PLAIN | {271: (78, 105)})).shape == (4, 4, 3), "a camera may write TIFF"


def test_numbers_that_are_no_levels() -> None:
    grey = saved(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF")
    assert "1 channel of 32-bit floating-point numbers" in refusal(grey)
    colour = PLAIN | {258: (32, 32, 32), 339: (3, 3, 3), 279: (192,)}
    assert "3 channels of 32-bit floating-point numbers" in refusal(tiff(colour))
    assert "ImageMagick" in refusal(tiff(colour))


def test_avif_is_no_heic() -> None:
    data = saved(Image.new("RGB", (20, 20), (9, 9, 200)), "AVIF")
    assert kinds.identify(data) is None
    assert decode_image(data).shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("name", "kind", "noteworthy"),
    [
        ("IMG_1.HEIC", ".heic", True),
        ("a.b.CR2", ".cr2", True),
        ("photos.zip", ".zip", True),
        ("film.MP4", ".mp4", True),
        ("notes.txt", ".txt", False),
        ("README", "other", False),
        ("a.very-long-ending", "other", False),
        ("b.\udce9", "other", False),
    ],
)
def test_kinds_by_name(name: str, kind: str, noteworthy: bool) -> None:
    assert kinds.of_name(name) == kind
    assert kinds.is_noteworthy(kind) == noteworthy


def test_advice_is_grouped() -> None:
    lines = kinds.advice([".nef", ".heic", ".cr2", ".txt", ".zip"])
    assert [line.split(":")[0] for line in lines] == [".cr2, .nef", ".heic", ".zip"]
