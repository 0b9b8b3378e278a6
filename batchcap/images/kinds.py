"""What a file is that batchcap does not read, and what would read it: by its first bytes, or by its name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, NamedTuple

from batchcap.errors import ImageError
from batchcap.images.formats import tiff


class Kind(NamedTuple):
    """A kind of file in words."""

    name: str
    fix: str
    """What would read it; empty where nothing would."""


_RAW: Final = "Develop it to JPEG, or take its preview: darktable, RawTherapee, or exiftool -b -PreviewImage."
_HEIC: Final = "Convert it to JPEG: heif-convert of libheif, ImageMagick, or the phone's own export."
_UNPACK: Final = "Unpack it, and name the folder."
_CONVERT: Final = "Convert it to PNG or JPEG, with ImageMagick for example."
_FRAMES: Final = "Take frames out of it: ffmpeg -i FILE -vf fps=1 FOLDER/%06d.jpg"
_LEVELS: Final = "Its pixels have no agreed range: bring them to 8 or 16 bits first, with ImageMagick or vips."
_HOME: Final = "Save the image itself."

_ORF: Final = Kind("a camera raw file (Olympus ORF)", _RAW)
_JXL: Final = Kind("a JPEG XL image", "Convert it to JPEG or PNG: djxl of libjxl, or ImageMagick.")
_POSTSCRIPT: Final = Kind("a PostScript file", _CONVERT)
_ANNEX: Final = Kind("a git-annex pointer, not the image", "Fetch the image: git annex get.")
# (place, bytes) -> what it is. The first that fits counts.
_SIGNATURES: Final[tuple[tuple[int, bytes, Kind], ...]] = (
    (0, b"PK\x03\x04", Kind("a zip archive, or a document in one", _UNPACK)),
    (0, b"PK\x05\x06", Kind("an empty zip archive", "")),
    (257, b"ustar", Kind("a tar archive", _UNPACK)),
    (0, b"\x1f\x8b", Kind("a file packed by gzip", _UNPACK)),
    (0, b"BZh", Kind("a file packed by bzip2", _UNPACK)),
    (0, b"\xfd7zXZ\0", Kind("a file packed by xz", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Kind("a file packed by zstd", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7-Zip archive", _UNPACK)),
    (0, b"Rar!\x1a\x07", Kind("a RAR archive", _UNPACK)),
    (0, b"FUJIFILMCCD-RAW", Kind("a camera raw file (Fujifilm RAF)", _RAW)),
    (0, b"IIU\0", Kind("a camera raw file (Panasonic RW2)", _RAW)),
    (0, b"IIRO", _ORF),
    (0, b"IIRS", _ORF),
    (0, b"FOVb", Kind("a camera raw file (Sigma X3F)", _RAW)),
    (0, b"\xff\x0a", _JXL),
    (4, b"JXL \r\n\x87\n", _JXL),
    (0, b"8BPS", Kind("a Photoshop document", _CONVERT)),
    (0, b"gimp xcf", Kind("a GIMP image", _CONVERT)),
    (0, b"%PDF", Kind("a PDF document", "Take its pages or images out: pdftoppm or pdfimages of Poppler.")),
    (0, b"%!PS", _POSTSCRIPT),
    (0, b"\xc5\xd0\xd3\xc6", _POSTSCRIPT),
    (0, b"\x76\x2f\x31\x01", Kind("an OpenEXR image of floating-point pixels", _CONVERT)),
    (0, b"#?RADIANCE", Kind("a Radiance HDR image of floating-point pixels", _CONVERT)),
    (0, b"DDS ", Kind("a DDS texture", _CONVERT)),
    (0, b"icns", Kind("a macOS icon", _CONVERT)),
    (0, b"\x1aE\xdf\xa3", Kind("a Matroska or WebM video", _FRAMES)),
    (8, b"AVI ", Kind("an AVI video", _FRAMES)),
    (8, b"WAVE", Kind("a sound file", "")),
    (0, b"\x00\x05\x16\x07", Kind("what macOS stores beside a file (AppleDouble), not the image", "")),
    (0, b"version https://git-lfs", Kind("a Git LFS pointer, not the image", "Fetch the image: git lfs pull.")),
    (0, b"../.git/annex", _ANNEX),
    (0, b"/annex/objects", _ANNEX),
)
_TEXTS: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"<!doctype html", Kind("a web page, not an image", _HOME)),
    (b"<html", Kind("a web page, not an image", _HOME)),
    (b"<svg", Kind("an SVG drawing", _CONVERT)),
    (b"<?xml", Kind("an XML file or SVG drawing", _CONVERT)),
)
_HEIF: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_RAW_SUFFIXES: Final = frozenset(
    (
        ".dng",
        ".cr2",
        ".cr3",
        ".crw",
        ".nef",
        ".nrw",
        ".arw",
        ".srf",
        ".sr2",
        ".orf",
        ".rw2",
        ".raf",
        ".pef",
        ".srw",
        ".x3f",
        ".raw",
        ".3fr",
        ".iiq",
        ".rwl",
        ".erf",
        ".mrw",
    )
)
_ARCHIVES: Final = frozenset((".zip", ".tar", ".tgz", ".tbz", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"))
_VIDEOS: Final = frozenset(
    (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv")
)
_OTHER_IMAGES: Final = frozenset(
    (
        ".heic",
        ".heif",
        ".hif",
        ".jxl",
        ".psd",
        ".psb",
        ".xcf",
        ".svg",
        ".svgz",
        ".eps",
        ".exr",
        ".hdr",
        ".pfm",
        ".dds",
        ".tga",
        ".pcx",
        ".icns",
        ".jxr",
        ".wdp",
        ".pdf",
    )
)


def identify(data: bytes | memoryview) -> Kind | None:
    """What these bytes are, if it is a kind that is known and not read; None otherwise."""
    head = bytes(data[:512])
    raw = tiff.name_raw(data)
    if raw is not None:
        return Kind(raw, _RAW)
    for place, signature, kind in _SIGNATURES:
        if head.startswith(signature, place):
            return kind
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, kind in _TEXTS:
        if text.startswith(start):
            return kind
    if head and not head.strip(b"\0") and not bytes(data).strip(b"\0"):
        return Kind("a file of zeros: what stood in it is lost", "")
    return None


def _iso_media(head: bytes) -> Kind | None:
    """By the brand of an ISO media file: HEIF, Canon's CR3, or a video. AVIF is read, so it has no kind here."""
    brands = (head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4)))
    if brands[0] in (b"avif", b"avis") or b"avif" in brands:
        return None
    if brands[0] in _HEIF:
        return Kind("a HEIC or HEIF image", _HEIC)
    if brands[0] == b"crx ":
        return Kind("a camera raw file (Canon CR3)", _RAW)
    return Kind("a video (MP4 or QuickTime)", _FRAMES)


def unsupported(data: bytes | memoryview, name: str | None = None) -> ImageError:
    """The error for a file of another kind: what it is, and what would read it.

    Args:
        data: its bytes.
        name: what it is, where the caller knows.
    """
    kind = identify(data)
    if name is not None and (kind is None or kind.name != name):
        kind = Kind(name, _LEVELS)
    if kind is None:
        return ImageError("decode", "unsupported", "no image format that is known here")
    return ImageError("decode", "unsupported", f"it is {kind.name}. {kind.fix}".rstrip())


def of_name(name: str) -> str:
    """The kind under which a file in a folder is counted that is not read: its ending, ``.heic``, or ``other``."""
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - called for every file of a folder
    return ending if ending.isascii() and ending[1:].isalnum() and len(ending) <= 8 else "other"


def is_noteworthy(kind: str) -> bool:
    """Whether files of this ending may hold images that the user misses: images, raw files, videos, archives."""
    return kind in _RAW_SUFFIXES or kind in _ARCHIVES or kind in _VIDEOS or kind in _OTHER_IMAGES


def advice(kinds: Iterable[str]) -> list[str]:
    """For each group of such endings one line: which they are, and what would read them."""
    groups = (
        ("camera raw files", _RAW_SUFFIXES, _RAW),
        ("HEIC images", frozenset((".heic", ".heif", ".hif")), _HEIC),
        ("archives", _ARCHIVES, _UNPACK),
        ("videos", _VIDEOS, _FRAMES),
        ("images that are not read", _OTHER_IMAGES - {".heic", ".heif", ".hif"}, _CONVERT),
    )
    wanted = sorted(set(kinds))
    lines = []
    for what, endings, fix in groups:
        if here := [kind for kind in wanted if kind in endings]:
            lines.append(f"{', '.join(here)}: {what}. {fix}")
    return lines
