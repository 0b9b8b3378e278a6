"""Decoding gives exactly what TensorFlow and Pillow make of the same file, upright, whatever the format, and quiet."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from encoded import encode, noise, smooth, stored_size
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from batchcap.errors import ImageError
from batchcap.images.decode import decode_image
from batchcap.images.opening import peek_cost

ORIENTATION = 0x0112
# The command line silences Pillow's warnings for its process.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[ORIENTATION] = orientation
    return made


def pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


# --- JPEG -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["420", "444", "progressive", "grey", "cmyk", "inks"])
def test_fast_dct_is_tensorflows_decoder(recorded: dict[str, NDArray[np.generic]], kind: str) -> None:
    data = recorded[f"jpeg_{kind}"].tobytes()
    np.testing.assert_array_equal(decode_image(data, "fast"), recorded[f"decoded_{kind}"])
    assert (decode_image(data, "accurate") != recorded[f"decoded_{kind}"]).any()


@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 30, "optimize": True}],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_equals_pillow(mode: str, options: dict[str, object]) -> None:
    data = encode(smooth(37, 51).convert(mode), "JPEG", **options)
    np.testing.assert_array_equal(decode_image(data), pillow(data))
    np.testing.assert_array_equal(decode_image(memoryview(data)), pillow(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_upright_by_exif(format: str, orientation: int) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(smooth(30, 44), format, exif=exif(orientation), **options)
    got = decode_image(data)
    assert got.shape == ((30, 44, 3) if orientation <= 4 else (44, 30, 3))
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, pillow(data))


def test_every_orientation_gives_the_same_upright_image() -> None:
    upright = noise(5, 8)
    # How a camera that was held in each way stores the scene.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: np.transpose(upright, (1, 0, 2)), 6: np.rot90(upright),
        7: np.rot90(upright[::-1]), 8: np.rot90(upright, -1),
    }  # fmt: skip
    for orientation, pixels in stored.items():
        data = encode(Image.fromarray(np.ascontiguousarray(pixels)), "PNG", exif=exif(orientation))
        np.testing.assert_array_equal(decode_image(data), upright, err_msg=f"orientation {orientation}")


@pytest.mark.parametrize(
    "broken", [b"Exif\0\0", b"Exif\0\0garbage-garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0"]
)
def test_broken_exif_does_not_matter(broken: bytes) -> None:
    image = smooth(20, 30)
    data = encode(image, "JPEG", exif=broken)
    np.testing.assert_array_equal(decode_image(data), decode_image(encode(image, "JPEG")))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_does_not_exist_is_none(value: int) -> None:
    image = smooth(20, 30)
    assert decode_image(encode(image, "JPEG", exif=exif(value))).shape == (20, 30, 3)


@pytest.mark.parametrize("dct", ["accurate", "fast"])
def test_jpeg_with_bytes_between_its_markers_is_read(dct: str) -> None:
    """Tolerable oddities do not change the pixels: libjpeg warns of them, Pillow does not mind."""
    data = encode(smooth(40, 40), "JPEG")
    odd = data[:-2] + b"\x00\x00\x00" + data[-2:]
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(odd)
    np.testing.assert_array_equal(decode_image(odd, dct), decode_image(data, dct))


@pytest.mark.parametrize("dct", ["accurate", "fast"])
def test_jpeg_that_only_pillow_reads(dct: str) -> None:
    data = encode(smooth(40, 40), "JPEG")
    odd = data.replace(b"\xff\xdb", b"\x00\x00\xff\xdb", 1)
    np.testing.assert_array_equal(decode_image(odd, dct), pillow(data))


def test_jpeg_with_a_tail_is_read() -> None:
    data = encode(smooth(40, 40), "JPEG")
    np.testing.assert_array_equal(decode_image(data + b"SEFT" * 100), decode_image(data))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
def test_truncated_jpeg(kept: float, progressive: bool) -> None:
    data = encode(Image.fromarray(noise(64, 64)), "JPEG", progressive=progressive)
    with pytest.raises(ImageError) as caught:
        decode_image(data[: int(len(data) * kept)])
    assert (caught.value.stage, caught.value.kind) == ("decode", "truncated")


# --- other formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("PPM", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
    ],
)
def test_lossless_formats(format: str, options: dict[str, object]) -> None:
    image = noise(21, 17)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(image), format, **options)), image)


def test_lossy_webp_equals_pillow() -> None:
    data = encode(smooth(40, 30), "WEBP", quality=60)
    np.testing.assert_array_equal(decode_image(data), pillow(data))


def test_one_bit_and_grey_png() -> None:
    grey = smooth(11, 19).convert("L")
    for image in (grey, grey.convert("1")):
        expected = np.repeat(np.asarray(image.convert("L"))[..., None], 3, axis=-1)
        np.testing.assert_array_equal(decode_image(encode(image, "PNG")), expected)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_upper_eight(format: str) -> None:
    levels = np.arange(0, 65536, 111, dtype=np.uint16)[:588].reshape(21, 28)
    got = decode_image(encode(Image.fromarray(levels), format))
    np.testing.assert_array_equal(got, np.repeat((levels >> 8).astype(np.uint8)[..., None], 3, axis=-1))


def test_eight_bits_in_sixteen_stay() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(levels), "PNG"))[..., 1], levels)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_an_agreed_range_are_refused(dtype: type) -> None:
    data = encode(Image.fromarray(np.full((4, 4), 100_000, dtype)), "TIFF")
    with pytest.raises(ImageError, match="range") as caught:
        decode_image(data)
    assert caught.value.kind == "unsupported"


@pytest.mark.parametrize(("format", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("TIFF", "RGBA")])
def test_transparency_is_laid_over_white(format: str, mode: str) -> None:
    image = smooth(12, 12).convert(mode)
    alpha = np.zeros((12, 12), np.uint8)
    alpha[:, 4:8], alpha[:, 8:] = 128, 255
    image.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    got = decode_image(encode(image, format, **options)).astype(float)
    colour = np.asarray(image.convert("RGB"), float)
    share = alpha[..., None] / 255
    assert (got[:, :4] == 255).all()
    assert np.abs(got - (colour * share + 255 * (1 - share))).max() <= 1


def test_palette_with_transparency() -> None:
    image = Image.frombytes("P", (2, 2), bytes([0, 1, 2, 1]))
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 90, 0])
    for transparency in (1, b"\xff\x00\xff"):
        got = decode_image(encode(image, "PNG", transparency=transparency))
        assert got.tolist() == [[[10, 20, 30], [255, 255, 255]], [[0, 90, 0], [255, 255, 255]]]


def test_animated_gif_gives_its_first_frame() -> None:
    frames = [smooth(16, 16, seed).quantize(8) for seed in range(3)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(data), np.asarray(frames[0].convert("RGB")))


def test_the_bytes_decide_not_the_name() -> None:
    assert decode_image(encode(Image.fromarray(noise(3, 4)), "GIF")).shape == (3, 4, 3)


# --- what is no image -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"just a text\n", "unsupported"),
        (b"\x00" * 5000, "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported"),
        (b"\xff\xd8\xff", "corrupt"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
        (b"GIF89a", "corrupt"),
        (b"BM1234", "corrupt"),
    ],
)
def test_no_image(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert (caught.value.stage, caught.value.kind) == ("decode", kind)
    assert caught.value.message
    assert stored_size(data) is None


def test_a_damaged_tiff_is_named_in_words_and_nothing_is_printed() -> None:
    """In a process of the command line's kind: libtiff writes past Python's `sys.stderr`."""
    data = bytearray(encode(Image.fromarray(noise(64, 64)), "TIFF", compression="tiff_lzw"))
    data[100:3000] = bytes(2900)
    code = """
import sys
from batchcap.system import process
process.take_over()
from batchcap.errors import ImageError
from batchcap.images.decode import decode_image
try:
    decode_image(sys.stdin.buffer.read())
except ImageError as error:
    print(error.kind, error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], input=bytes(data), capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"damaged bytes inside are wrong (decoding error)\n", b"")


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF"])
def test_truncated_formats(format: str) -> None:
    data = encode(Image.fromarray(noise(64, 64)), format)
    with pytest.raises(ImageError) as caught:
        decode_image(data[: len(data) // 2])
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("format", ["PNG", "BMP"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(format: str) -> None:
    data = bytearray(encode(Image.fromarray(noise(4, 4)), format))
    order, place = ("big", 16) if format == "PNG" else ("little", 18)
    for at in (place, place + 4):
        data[at : at + 4] = (60_000).to_bytes(4, order)
    if format == "PNG":
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageError) as caught:
        decode_image(bytes(data))
    assert caught.value.kind == "too-large"


@pytest.fixture(scope="module")
def samples() -> list[bytes]:
    image = smooth(24, 32)
    turned = {"exif": exif(6)}
    return [
        encode(image, "JPEG", **turned),
        encode(image, "JPEG", progressive=True),
        encode(image, "PNG", **turned),
        encode(image.quantize(16), "PNG", transparency=3),
        encode(image, "WEBP", **turned),
        encode(image, "BMP"),
        encode(image, "TIFF", **turned),
        encode(image.quantize(16), "GIF"),
    ]


@given(data=st.data())
def test_damaged_files_give_an_image_or_an_image_error(samples: list[bytes], data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(0, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    stored_size(cut)
    peek_cost(cut)
    with suppress(ImageError):
        image = decode_image(cut)
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_size_is_known_before_decoding(format: str) -> None:
    assert stored_size(encode(smooth(20, 30), format)) == (30, 20)


def test_nothing_reaches_standard_error(tmp_path: Path) -> None:
    """In a process of the command line's kind: a library leaves its host's warnings and handlers as they are."""
    palette = Image.frombytes("P", (2, 2), bytes([0, 1, 2, 1]))
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 90, 0])
    jpeg = encode(smooth(40, 40), "JPEG")
    files = [
        encode(palette, "PNG", transparency=b"\xff\x00\xff"),
        encode(smooth(20, 20), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        jpeg.replace(b"\xff\xdb", b"\x00\x00\xff\xdb", 1),
        jpeg[:400],
        encode(Image.new("1", (10_000, 9_000)), "PNG"),  # over the size at which Pillow begins to warn
        b"no image",
    ]
    for number, data in enumerate(files):
        (tmp_path / str(number)).write_bytes(data)
    script = (
        "import sys, pathlib\n"
        "from batchcap.system import process\n"
        "process.take_over()\n"
        "from batchcap.images import decode\n"
        "from batchcap.errors import ImageError\n"
        "for file in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try:\n"
        "        decode.decode_image(file.read_bytes())\n"
        "        print('image')\n"
        "    except ImageError as error:\n"
        "        print(error.kind)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split() == ["image", "image", "image", "truncated", "image", "unsupported"]
