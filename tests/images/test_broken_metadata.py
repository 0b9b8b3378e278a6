"""Broken metadata and settings of the host make no whole image broken, and no broken one whole."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from encoded import FORMATS, encode, kind_of, scene, stored_size
from PIL import Image, ImageFile

from batchcap.images.decode import decode_image
from batchcap.images.opening import peek_cost

pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")


def chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    wrong = zlib.crc32(name + body) if crc is None else crc
    return len(body).to_bytes(4, "big") + name + body + wrong.to_bytes(4, "big")


TEXT = b"Comment\0\0" + zlib.compress(bytes(1_200_000))
CHUNKS = {
    "zTXt of 1.2 MB": chunk(b"zTXt", TEXT),
    "iTXt of 1.2 MB": chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 1_200_000)),
    "iCCP of 1.2 MB": chunk(b"iCCP", b"profile\0\0" + zlib.compress(np.random.default_rng(0).bytes(1_200_000))),
    "short pHYs": chunk(b"pHYs", b"\0\0"),
    "short gAMA": chunk(b"gAMA", b"\0"),
    "short acTL": chunk(b"acTL", b"\0"),
    "short cHRM": chunk(b"cHRM", b"\0"),
    "short sRGB": chunk(b"sRGB", b""),
    "short fcTL": chunk(b"acTL", bytes((0, 0, 0, 2, 0, 0, 0, 0))) + chunk(b"fcTL", b"\0"),
    "wrong checksum of tEXt": chunk(b"tEXt", b"Comment\0hello", 1),
    "wrong checksum of tIME": chunk(b"tIME", bytes(7), 1),
    "odd zTXt": chunk(b"zTXt", b"Comment\0\7garbage"),
    "broken zTXt": chunk(b"zTXt", b"Comment\0\0garbage"),
    "wrong checksum of eXIf": chunk(b"eXIf", b"II*\0garbage", 1),
}


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_png_with_broken_metadata(name: str, behind: bool, mode: str) -> None:
    image = scene(60, 80).convert(mode)
    data = encode(image, "PNG")
    at = data.index(b"IEND") - 4 if behind else data.index(b"IHDR") + 21
    broken = data[:at] + CHUNKS[name] + data[at:]
    np.testing.assert_array_equal(decode_image(broken), decode_image(data))
    assert stored_size(broken) == (80, 60)
    assert peek_cost(broken) == pytest.approx(peek_cost(data), abs=len(broken) + 1)


@pytest.mark.parametrize("name", ["zTXt of 1.2 MB", "short pHYs", "wrong checksum of tEXt"])
def test_a_png_with_broken_metadata_is_turned_and_checked(name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(scene(60, 80), "PNG", exif=exif)
    at = data.index(b"IHDR") + 21
    broken = data[:at] + CHUNKS[name] + data[at:]
    assert decode_image(broken).shape == (80, 60, 3)
    np.testing.assert_array_equal(decode_image(broken), decode_image(data))
    assert kind_of(broken[: len(broken) * 9 // 10]) == "truncated"
    wrong = bytearray(broken)
    wrong[-200] ^= 1
    assert kind_of(bytes(wrong)) == "damaged"


def emptied(data: bytes, code: int, size: int, fill: bytes | None) -> bytes:
    """The segment of a JPEG cut to ``size`` bytes, or filled with zeros."""
    at = data.index(bytes((0xFF, code)))
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if fill is not None:
        return data[: at + 4] + fill * (end - at - 4) + data[end:]
    return data[: at + 2] + (size + 2).to_bytes(2, "big") + data[at + 4 : at + 4 + size] + data[end:]


@pytest.mark.parametrize("code", [0xE0, 0xE1, 0xE2, 0xEE])
@pytest.mark.parametrize(("size", "fill"), [(0, None), (2, None), (5, None), (7, None), (12, None), (0, b"\0")])
@pytest.mark.parametrize("dct", ["accurate", "fast"])
def test_a_jpeg_with_broken_metadata(code: int, size: int, fill: bytes | None, dct: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    plain = encode(scene(60, 80), "JPEG", quality=90)
    data = encode(scene(60, 80), "JPEG", quality=90, exif=exif, icc_profile=bytes(range(200)))
    if code not in (0xE0, 0xE1, 0xE2):
        data = data[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1" + data[2:]
    broken = emptied(data, code, size, fill)
    np.testing.assert_array_equal(decode_image(broken, dct), decode_image(plain, dct))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_cut_exif_where_warnings_are_errors(format: str, turn: int) -> None:
    """The image is captioned, and turned as it is where they are none."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = turn, "Maker" * 9
    data = encode(scene(60, 80), format, exif=exif.tobytes()[:40])
    plain = decode_image(data)
    np.testing.assert_array_equal(plain, decode_image(encode(scene(60, 80), format, exif=exif)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decode_image(data), plain)


def ico(image: Image.Image, **options: object) -> bytes:
    return encode(image, "ICO", sizes=[(64, 64)], **options)


CUT: dict[str, Callable[[Image.Image], bytes]] = {
    **FORMATS,
    "ico": ico,
    "ico of bmp": lambda image: ico(image, bitmap_format="bmp"),
}


@pytest.mark.parametrize("name", CUT)
def test_the_host_may_have_pillow_load_truncated_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = CUT[name](scene())
    plain = decode_image(data)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for share in (0.4, 0.7, 0.95):
        assert kind_of(data[: int(len(data) * share)]) in ("truncated", "corrupt"), share
    np.testing.assert_array_equal(decode_image(data), plain)
    assert ImageFile.LOAD_TRUNCATED_IMAGES
