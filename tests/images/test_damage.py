"""A broken image is named for what it is: cut short, damaged inside, or nothing at all; a whole one never is."""

from __future__ import annotations

import numpy as np
import pytest
from encoded import FORMATS, encode, kind_of, scene
from numpy.typing import NDArray
from paths import SHARED
from PIL import Image

from batchcap.errors import ImageError
from batchcap.images.decode import decode_image, salvage_image
from batchcap.images.preprocess import JpegDct

# The package silences Pillow's warnings for its process; pytest puts its own filters in their place.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")


# Uncompressed pixels, in which zeros are black; and those in which they may be an even surface.
PLAIN = ("tiff", "bmp", "ppm", "webp lossless")


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_image_is_whole(name: str) -> None:
    assert kind_of(FORMATS[name](scene())) == "whole"


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_ends_early_is_truncated(name: str) -> None:
    data = FORMATS[name](scene())
    for kept in (0.6, 0.9):
        assert kind_of(data[: int(len(data) * kept)]) == "truncated", kept


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in (*PLAIN, "webp")])
@pytest.mark.parametrize("size", [512, 4096])
def test_a_hole_of_zeros_is_damage(name: str, size: int) -> None:
    data = FORMATS[name](scene(400, 520))
    assert len(data) > 4 * size
    for at in (0.3, 0.5, 0.7):
        start = int(len(data) * at)
        assert kind_of(data[:start] + bytes(size) + data[start + size :]) == "damaged", at


@pytest.mark.parametrize("animated", [False, True])
def test_a_large_hole_of_a_lossy_webp_is_damage(animated: bool) -> None:
    """Only one that is larger than even surfaces can be."""
    more = {"save_all": True, "append_images": [scene(208, 256)]} if animated else {}
    data = encode(scene(208, 256), "WEBP", quality=100, **more)
    size, start = 512 + 13 * 16 * 25, data.index(b"VP8 ") + 9000
    assert kind_of(data[:start] + bytes(size + 2) + data[start + size + 2 :]) == "damaged"
    assert kind_of(data) == "whole"


@pytest.mark.parametrize("name", ["jpeg", "optimized", "progressive", "grey", "cmyk", "webp", "png"])
def test_a_second_half_of_zeros_is_damage(name: str) -> None:
    data = FORMATS[name](scene())
    half = len(data) // 2
    assert kind_of(data[:half] + bytes(len(data) - half)) == "damaged"
    assert kind_of(data[:half] + bytes(len(data) - half - 2) + data[-2:]) == "damaged"


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "tiff deflate"])
def test_garbage_inside_is_damage(name: str) -> None:
    data = FORMATS[name](scene())
    garbage = np.random.default_rng(0).bytes(600)
    half = len(data) // 2
    assert kind_of(data[:half] + garbage + data[half + 600 :]) == "damaged"


@pytest.mark.parametrize("place", [0.2, 0.5, 0.999])
def test_one_wrong_bit_of_a_png_is_damage(place: float) -> None:
    """Its checksums tell; Pillow looks at none of the pixels' own."""
    data = bytearray(FORMATS["png"](scene()))
    end = data.index(b"IEND") - 8
    data[41 + int((end - 41) * place) - 1] ^= 4
    assert kind_of(bytes(data)) == "damaged"


def test_a_wrong_checksum_of_a_text_is_no_damage() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "a holiday")
    plain, data = FORMATS["png"](scene()), encode(scene(), "PNG", pnginfo=info)
    text = data[33 : data.index(b"IDAT") - 4]
    data = data[:-12] + text.replace(b"a holiday", b"a notiday") + data[-12:]
    np.testing.assert_array_equal(decode_image(data), decode_image(plain))


# --- nothing is missing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jpeg", "optimized", "progressive", "grey", "cmyk"])
@pytest.mark.parametrize("dct", ["accurate", "fast"])
@pytest.mark.parametrize("tail", [b"", b"\xff", b"\0" * 10])
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(name: str, dct: JpegDct, tail: bytes) -> None:
    data = FORMATS[name](scene())
    assert data.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(decode_image(data[:-2] + tail, dct), decode_image(data, dct))


def test_a_jpeg_that_lacks_a_whole_scan_is_not() -> None:
    """Cut right between two scans of a progressive file, where no decoder complains."""
    data = FORMATS["progressive"](scene())
    scans = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    tables = data.rindex(b"\xff\xc4", 0, scans[-1])
    assert kind_of(data[:tables]) == "truncated"


@pytest.mark.parametrize("name", ["jpeg", "progressive"])
@pytest.mark.parametrize("tail", [b"SEFT" * 100, bytes(4096), b"\xff\xd8\xff\xe0" * 9, b"\xff\xd9"])
def test_what_stands_behind_the_end_is_no_matter(name: str, tail: bytes) -> None:
    data = FORMATS[name](scene())
    np.testing.assert_array_equal(decode_image(data + tail), decode_image(data))


@pytest.mark.parametrize("name", ["jpeg", "progressive", "grey"])
@pytest.mark.parametrize("zeros", [1, 3, 64])
def test_padding_before_the_end_is_no_matter(name: str, zeros: int) -> None:
    data = FORMATS[name](scene())
    np.testing.assert_array_equal(decode_image(data[:-2] + bytes(zeros) + data[-2:]), decode_image(data))


def test_pixels_left_over_before_the_end_are_damage() -> None:
    data = FORMATS["jpeg"](scene())
    assert kind_of(data[:-2] + b"\x5a\x13\x77" * 9 + data[-2:]) == "damaged"


def test_an_even_surface_may_be_all_zeros() -> None:
    """With tables of its own an even JPEG is coded in zeros alone, and so is an even WebP."""
    even = Image.new("RGB", (3000, 2000), (120, 130, 140))
    data = encode(even, "JPEG", optimize=True)
    assert bytes(512) in data
    assert kind_of(data) == "whole"
    assert bytes(512) in encode(even, "WEBP")
    for name, options in (("WEBP", {}), ("WEBP", {"lossless": True}), ("JPEG2000", {}), ("AVIF", {}), ("PNG", {})):
        assert kind_of(encode(even, name, **options)) == "whole", name


@pytest.mark.parametrize("method", [0, 1, 2, 4])
@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0), (0, 0, 0, 0)])
def test_a_webp_with_much_even_ground_is_whole(method: int, ground: tuple[int, ...]) -> None:
    canvas = Image.new("RGB" if len(ground) == 3 else "RGBA", (1000, 1000), ground)
    canvas.paste(scene(400, 600), (30, 20))
    data = encode(canvas, "WEBP", quality=100, method=method)
    assert (bytes(512) in data) == (method < 3)
    assert kind_of(data) == "whole"


def test_zeros_in_metadata_are_no_damage() -> None:
    exif = Image.Exif()
    exif[0x9286] = b"ASCII\0\0\0" + bytes(5000)
    for name in ("JPEG", "WEBP", "AVIF", "PNG", "TIFF"):
        assert kind_of(encode(scene(), name, exif=exif)) == "whole", name
    for name in ("JPEG", "WEBP", "AVIF", "PNG"):
        assert kind_of(encode(scene(), name, xmp=b"<x:xmpmeta/>" + bytes(5000))) == "whole", name


@pytest.mark.parametrize("progressive", [False, True])
def test_a_quantisation_table_with_a_zero_is_damage(progressive: bool) -> None:
    data = encode(scene(), "JPEG", quality=90, progressive=progressive)
    table = data.index(b"\xff\xdb") + 5
    assert kind_of(data[: table + 20] + bytes(16) + data[table + 36 :]) == "damaged"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_codestream_without_its_end_is_truncated(share: float) -> None:
    data = encode(scene(), "JPEG2000", no_jp2=True)
    assert kind_of(data) == kind_of(data + bytes(9)) == "whole"
    assert kind_of(data[: int(len(data) * share)]) == "truncated"


def test_a_png_without_its_last_chunk_is_whole() -> None:
    data = FORMATS["png"](scene())
    np.testing.assert_array_equal(decode_image(data[:-12]), decode_image(data))


@pytest.mark.skipif(not SHARED.is_dir(), reason="reference photographs (../shared/data) are not here")
def test_real_photographs() -> None:
    """No photograph is called damaged, each without its end is whole, and each with a hole is not."""
    photos = sorted((SHARED / "photos").glob("*.jpg"))
    assert photos
    for photo in photos:
        data = photo.read_bytes()
        assert kind_of(data) == "whole", photo
        end, half = data.rindex(b"\xff\xd9"), len(data) // 2
        assert kind_of(data[:end]) == "whole", photo
        assert kind_of(data[:half]) == "truncated", photo
        assert kind_of(data[:half] + bytes(len(data) - half)) == "damaged", photo
        assert kind_of(data[:half] + bytes(4096) + data[half + 4096 :]) == "damaged", photo


# --- what can be had of it --------------------------------------------------------------------------------------------


def share(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Of the rows, how many are the same."""
    return float((one == other).all(axis=(1, 2)).mean())


@pytest.mark.parametrize("name", ["jpeg", "grey", "cmyk", "png", "tiff", "bmp", "ppm", "gif"])
def test_the_part_before_the_damage_is_salvaged(name: str) -> None:
    data = FORMATS[name](scene())
    whole = decode_image(data)
    half = len(data) // 2
    for broken in (data[:half], data[:half] + bytes(4096) + data[half + 4096 :]):
        if kind_of(broken) != "whole":
            saved = salvage_image(broken)
            assert saved.shape == whole.shape
            assert 0.35 < share(saved, whole) < 0.99


@pytest.mark.parametrize("name", ["webp", "avif", "tiff lzw"])
def test_where_nothing_can_be_had_it_is_corrupt(name: str) -> None:
    data = FORMATS[name](scene())
    with pytest.raises(ImageError) as caught:
        salvage_image(data[: len(data) // 2])
    assert caught.value.kind == "corrupt"


def test_salvaging_leaves_whole_images_alone() -> None:
    for make in FORMATS.values():
        data = make(scene(40, 50))
        np.testing.assert_array_equal(salvage_image(data), decode_image(data))
