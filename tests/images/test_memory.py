"""What images really take while they are decoded and resized: the peak of a process of its own, by format."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from encoded import stored_size
from PIL import IcoImagePlugin, Image, TiffImagePlugin

from batchcap.errors import ImageError
from batchcap.images import opening
from batchcap.images.decode import decode_image

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the peak is measured in other units elsewhere"),
    pytest.mark.filterwarnings(r"ignore:::PIL\."),
]
SIDE = 2100
PIXELS = SIDE * SIDE

# The peak is looked up in /proc: getrusage begins with what the parent had before the child was its own program.
ONE = """
import sys
from pathlib import Path
from batchcap.images.decode import decode_image
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import Preprocess
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
how = Preprocess(160, 160, 160, 160, sys.argv[3], pixels=sys.argv[4])
preprocess(decode_image(Path(sys.argv[2]).read_bytes()), how)
data = Path(sys.argv[1]).read_bytes()
before = peak()
preprocess(decode_image(data), how)
print(peak() - before)
"""

MANY = """
import sys
from pathlib import Path
from batchcap.images import discovery
from batchcap.images.loader import load
from batchcap.images.decode import decode_image
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import Preprocess
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
how = Preprocess(160, 160, 160, 160)
preprocess(decode_image(Path(sys.argv[2]).read_bytes()), how)
before = peak()
good = sum(batch.count for batch in load(discovery.discover([Path(sys.argv[1])]), how, 8, int(sys.argv[3])))
print(good, peak() - before)
"""


def even(mode: str, side: int) -> Image.Image:
    return Image.new("L", (side, side), 90).convert(mode)


def one_strip(image: Image.Image, file: Path) -> None:
    """A TIFF of a single strip, which libtiff unpacks whole."""
    before, TiffImagePlugin.STRIP_SIZE = TiffImagePlugin.STRIP_SIZE, 1 << 30
    try:
        image.save(file, "TIFF", compression="tiff_adobe_deflate")
    finally:
        TiffImagePlugin.STRIP_SIZE = before


def turned(image: Image.Image, file: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, "JPEG", exif=exif)


FORMATS: dict[str, tuple[str, Callable[[Image.Image, Path], None]]] = {
    "jpeg": ("RGB", lambda image, file: image.save(file, "JPEG")),
    "jpeg to be turned": ("RGB", turned),
    "progressive": ("RGB", lambda image, file: image.save(file, "JPEG", progressive=True, subsampling=0)),
    "cmyk": ("CMYK", lambda image, file: image.save(file, "JPEG")),
    "progressive cmyk": ("CMYK", lambda image, file: image.save(file, "JPEG", progressive=True)),
    "png": ("RGB", lambda image, file: image.save(file, "PNG")),
    "png with alpha": ("RGBA", lambda image, file: image.save(file, "PNG")),
    "palette": ("P", lambda image, file: image.save(file, "PNG", transparency=3)),
    "16 bits": ("I;16", lambda image, file: image.save(file, "PNG")),
    "gif": ("P", lambda image, file: image.save(file, "GIF")),
    "bmp": ("RGB", lambda image, file: image.save(file, "BMP")),
    "tiff": ("RGB", lambda image, file: image.save(file, "TIFF", compression="tiff_lzw")),
    "tiff of one strip": ("RGBA", one_strip),
    "webp": ("RGBA", lambda image, file: image.save(file, "WEBP", method=0)),
    "lossless webp": ("RGB", lambda image, file: image.save(file, "WEBP", lossless=True, method=0, quality=0)),
    "jpeg 2000": ("RGBA", lambda image, file: image.save(file, "JPEG2000")),
    "avif": ("RGB", lambda image, file: image.save(file, "AVIF", speed=10)),
}


def measured(tmp_path: Path, name: str, method: str, pixels: str) -> tuple[float, float]:
    """Bytes a pixel at the peak, and as they are charged."""
    mode, save = FORMATS[name]
    for side in (SIDE, 64):
        save(even(mode, side), tmp_path / str(side))
    arguments = [str(tmp_path / str(SIDE)), str(tmp_path / "64"), method, pixels]
    done = subprocess.run([sys.executable, "-c", ONE, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout) / PIXELS, opening.peek_cost((tmp_path / str(SIDE)).read_bytes()) / PIXELS


@pytest.mark.parametrize("name", FORMATS)
def test_no_image_takes_more_than_it_is_charged(tmp_path: Path, name: str) -> None:
    taken, charged = measured(tmp_path, name, "bilinear-antialias", "uint8")
    assert taken <= charged + 0.5
    assert charged <= max(3 * taken, 8.5), "charged so much that it would wait in vain"


@pytest.mark.parametrize("method", ["bilinear-antialias", "bilinear"])
def test_unrounded_pixels_take_no_more(tmp_path: Path, method: str) -> None:
    taken, charged = measured(tmp_path, "jpeg", method, "float32")
    assert taken <= charged


@pytest.mark.parametrize(("side", "workers", "bound"), [(5600, 3, 768), (8600, 2, 600)])
def test_several_large_at_once(tmp_path: Path, side: int, workers: int, bound: int) -> None:
    """Four together take no more than the budget of all threads, or one of them alone where that is more; MiB."""
    (tmp_path / "large").mkdir()
    even("RGBA", side).save(tmp_path / "large" / "0.png", compress_level=1)
    for number in range(1, 4):
        (tmp_path / "large" / f"{number}.png").write_bytes((tmp_path / "large" / "0.png").read_bytes())
    even("RGBA", 64).save(tmp_path / "small.png")
    arguments = [str(tmp_path / "large"), str(tmp_path / "small.png"), str(workers)]
    done = subprocess.run([sys.executable, "-c", MANY, *arguments], capture_output=True, text=True, check=True)
    good, taken = map(int, done.stdout.split())
    assert good == 4
    assert taken < bound * 2**20


@pytest.mark.parametrize(
    ("size", "format"),
    [((21_000, 10_001), "PNG"), ((16_000, 8_000), "WEBP"), ((1, 300_001), "PNG"), ((300_001, 1), "PNG")],
)
def test_beyond_the_limit_an_image_is_refused_by_its_header(
    size: tuple[int, int], format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """210 million pixels, 300,000 a side; fewer in formats that take more, so that none takes more than 2 GiB."""
    opened = opening.open_image(_headed(format, size))
    assert opened.size == size
    monkeypatch.setattr(type(opened), "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match=f"{size[0]}x{size[1]}") as caught:
        decode_image(_headed(format, size))
    assert (caught.value.stage, caught.value.kind) == ("decode", "too-large")
    assert opening.peek_cost(_headed(format, size)) == 0


def _headed(format: str, size: tuple[int, int]) -> bytes:
    """A small image whose header promises another size."""
    import io
    import zlib

    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, format, **({"lossless": True} if format == "WEBP" else {}))
    data = bytearray(stream.getvalue())
    if format == "PNG":
        data[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    else:
        sizes = (size[0] - 1) | (size[1] - 1) << 14
        data[21:25] = (int.from_bytes(data[21:25], "little") & ~((1 << 28) - 1) | sizes).to_bytes(4, "little")
    return bytes(data)


def test_an_icon_is_as_large_as_its_image_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An icon's directory knows no size over 256; the PNG in it may be of any."""
    Image.new("RGBA", (256, 256)).save(tmp_path / "a.ico", sizes=[(256, 256)])
    data = (tmp_path / "a.ico").read_bytes()
    at = data.index(b"\x89PNG")
    monkeypatch.setattr(IcoImagePlugin.IcoFile, "frame", lambda self, index: pytest.fail("it was decoded"))
    for size in ((30_000, 30_000), (1, 170_000_000), (10_000, 10_000)):
        with pytest.raises(ImageError) as caught:
            decode_image(data[:at] + _headed("PNG", size))
        assert caught.value.kind == "too-large"


def test_a_canvas_beyond_all_limits_is_one_failure(tmp_path: Path) -> None:
    """Pillow refuses such a WebP as it opens it, by an error of another kind."""
    even("RGBA", 40).save(tmp_path / "a.webp", exif=b"Exif\0\0II*\0")
    data = bytearray((tmp_path / "a.webp").read_bytes())
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (15_999).to_bytes(3, "little") * 2
    assert opening.peek_cost(bytes(data)) == 0
    assert stored_size(bytes(data)) is None
    with pytest.raises(ImageError) as caught:
        decode_image(bytes(data))
    assert (caught.value.stage, caught.value.kind) == ("decode", "too-large")


def test_the_limit_is_ours_whatever_the_process_sets_pillow_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    even("RGB", 300).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image((tmp_path / "a.png").read_bytes()).shape == (300, 300, 3)
