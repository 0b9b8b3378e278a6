"""Images with all that cameras, phones and editors put beside the pixels, built for the tests of embedding."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin
from xmp_samples import lightroom

_TYPES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
TRAILER: Final = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(range(256)) * 9
"""What a motion photo has after its image: a film."""

Tags = dict[int, tuple[int, bytes]]


def picture(seed: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A smooth image with some noise: no two seeds are alike."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    return Image.fromarray((ramp + random.integers(0, 55, ramp.shape)).astype(np.uint8))


def _ifd(tags: Tags, start: int, following: int = 0) -> bytes:
    """An image file directory, little-endian, whose values lie behind it; ``start``: its place in the TIFF."""
    heap, entries = b"", b""
    place = start + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        count = len(value) // _TYPES[kind]
        if len(value) <= 4:
            entries += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        else:
            entries += struct.pack("<HHII", tag, kind, count, place + len(heap))
            heap += value + b"\0" * (len(value) % 2)
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + heap


def text(value: str) -> tuple[int, bytes]:
    return 2, value.encode() + b"\0"


def exif(description: str | None = None) -> bytes:
    """EXIF as of a Canon camera, whose notes hold offsets into the whole of it; with a thumbnail."""
    thumbnail = io.BytesIO()
    picture(9, (16, 12)).save(thumbnail, "JPEG")
    small = thumbnail.getvalue()
    main: Tags = {0x010F: text("Canon"), 0x0110: text("Canon EOS 80D"), 0x0112: (3, struct.pack("<H", 6))}
    main |= {0x0131: text("Firmware 1.0.2"), 0x8769: (4, b"\0" * 4)}
    if description is not None:
        main[0x010E] = text(description)
    camera: Tags = {0x9003: text("2019:07:14 18:22:10"), 0x829A: (5, struct.pack("<II", 1, 250))}
    camera[0x9286] = (7, b"ASCII\0\0\0a comment of the user")
    notes: Tags = {
        0x0006: text("Canon EOS 80D image"),
        0x0007: text("Firmware Version 1.0.2"),
        0x0009: text("Ana Owner"),
    }

    second = 8 + len(_ifd(main, 8))
    # The notes come last in the values of their directory, so their place is that of its end.
    made = _ifd(notes, 0)
    at = second + len(_ifd({**camera, 0x927C: (7, made)}, second)) - len(made) - len(made) % 2
    camera[0x9286], camera[0x927C] = camera[0x9286], (7, made)
    order = {tag: camera[tag] for tag in sorted(camera)}
    offset = second + 2 + 12 * len(order) + 4
    for tag, (_, value) in order.items():
        if tag == 0x927C:
            at = offset
        offset += len(value) + len(value) % 2 if len(value) > 4 else 0
    camera[0x927C] = (7, _ifd(notes, at))
    main[0x8769] = (4, struct.pack("<I", second))
    body = _ifd(camera, second)
    third = second + len(body)
    last: Tags = {0x0103: (3, struct.pack("<H", 6)), 0x0202: (4, struct.pack("<I", len(small)))}
    last[0x0201] = (4, struct.pack("<I", third + len(_ifd({**last, 0x0201: (4, b"\0" * 4)}, third))))
    return b"Exif\0\0II*\0\x08\0\0\0" + _ifd(main, 8, third) + body + _ifd(last, third) + small


def _segment(code: int, body: bytes) -> bytes:
    return b"\xff" + bytes([code]) + struct.pack(">H", len(body) + 2) + body


def iptc(*datasets: tuple[int, str]) -> bytes:
    """A segment of Photoshop with IPTC (dataset number of record 2, text) and its digest: XMP is in step with it."""
    data = b"\x1c\x01\x5a\0\x03\x1b%G" + b"".join(
        b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(value.encode())) + value.encode()
        for number, value in datasets
    )
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    resource += b"8BIM\x04\x25\0\0" + struct.pack(">I", 16) + hashlib.md5(data).digest()
    return _segment(0xED, b"Photoshop 3.0\0" + resource + b"8BIM\x03\xed\0\0" + struct.pack(">I", 16) + bytes(16))


def xmp_segments(packet: bytes, *, extended: bool = False) -> bytes:
    """XMP of a JPEG; ``extended``: with a second part in other segments, as photos with depth have."""
    if not extended:
        return _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)
    more = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/"'
        f' GDepth:Format="RangeInverse" GDepth:Mime="image/jpeg" GDepth:Data="{"QUJD" * 20000}"/></rdf:RDF></x:xmpmeta>'
    ).encode()
    name = hashlib.md5(more).hexdigest().upper().encode()
    mark = b' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="' + name + b'"'
    segments = xmp_segments(packet.replace(b' rdf:about=""', b' rdf:about=""' + mark, 1))
    for at in range(0, len(more), 60000):
        place = name + struct.pack(">II", len(more), at)
        segments += _segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + place + more[at : at + 60000])
    return segments


def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def jpeg(
    *,
    description: str | None = None,
    keywords: bool = True,
    packet: bytes | None = None,
    extended: bool = False,
    trailer: bytes = TRAILER,
    caption: str | None = None,
) -> bytes:
    """A photo with EXIF, notes of the camera, thumbnail, ICC, IPTC, XMP, a comment, and a film behind it."""
    out = io.BytesIO()
    picture(1).save(out, "JPEG", icc_profile=icc(), comment=b"a comment", progressive=True)
    data = out.getvalue()
    head = _segment(0xE1, exif(description))
    if packet is None:
        packet = lightroom()
    if keywords:
        head += iptc((25, "snow"), (80, "Ana"), *([(120, caption)] if caption else []))
    return data[:2] + head + xmp_segments(packet, extended=extended) + data[2:] + trailer


def mpo() -> bytes:
    """Two images in one JPEG (multi-picture format), as of a phone that keeps a depth map or a second view."""
    out = io.BytesIO()
    picture(1).save(out, "MPO", save_all=True, append_images=[picture(2)], exif=exif())
    return out.getvalue()


def png() -> bytes:
    """With EXIF, ICC, and texts of several kinds, one of them as image generators write it."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "a prompt\nSteps: 20")
    texts.add_text("Author", "Ana", zip=True)
    texts.add_itxt("Title", "Köln", lang="de", tkey="Titel")
    out = io.BytesIO()
    picture(3).save(out, "PNG", pnginfo=texts, exif=exif()[6:], icc_profile=icc(), dpi=(300, 300))
    data = out.getvalue()
    own = b"zzAp" + b"of some program"
    chunk = struct.pack(">I", len(own) - 4) + own + struct.pack(">I", zlib.crc32(own))
    return data[:-12] + chunk + data[-12:]


def webp(*, frames: int = 1, plain: bool = False) -> bytes:
    """With EXIF, XMP and ICC; animated with more than one frame; ``plain``: pixels alone."""
    out = io.BytesIO()
    extras = {} if plain else {"exif": exif()[6:], "icc_profile": icc(), "xmp": lightroom()}
    more = [picture(seed) for seed in range(4, 4 + frames - 1)]
    picture(3).save(out, "WEBP", quality=80, save_all=frames > 1, append_images=more, duration=120, **extras)
    return out.getvalue()


def tiff(*, pages: int = 2, big: bool = False, description: str | None = None) -> bytes:
    """Several pages, LZW in strips, with a resolution and an artist; ``big``: BigTIFF, not packed."""
    out = io.BytesIO()
    info = {0x013B: "Ana", 0x0112: 1} | ({0x010E: description} if description else {})
    more = [picture(seed) for seed in range(4, 4 + pages - 1)]
    picture(3).save(
        out,
        "TIFF",
        compression="tiff_lzw" if not big else None,
        save_all=True,
        append_images=more,
        dpi=(300, 300),
        tiffinfo=info,
        icc_profile=icc(),
        big_tiff=big,
    )
    return out.getvalue()


def all_kinds() -> dict[str, bytes]:
    """A file of each kind by its name."""
    return {
        "photo.jpg": jpeg(),
        "depth.jpg": jpeg(extended=True),
        "two.jpg": mpo(),
        "plain.jpg": _plain("JPEG"),
        "texts.png": png(),
        "plain.png": _plain("PNG"),
        "still.webp": webp(),
        "plain.webp": webp(plain=True),
        "moving.webp": webp(frames=3),
        "pages.tif": tiff(),
    }


def _plain(kind: str) -> bytes:
    out = io.BytesIO()
    picture(5).save(out, kind)
    return out.getvalue()


def coded_pixels(path: Path) -> bytes:
    """What the pixels of a file are made from, as it stands in the file: everything but metadata."""
    data = path.read_bytes()
    if data[:2] == b"\xff\xd8":
        return _scans(data)
    if data[:4] == b"\x89PNG":
        return b"".join(body for name, body in _chunks(data, 8, ">") if name in (b"IHDR", b"PLTE", b"IDAT", b"tRNS"))
    if data[:4] == b"RIFF":
        return b"".join(
            body for name, body in _chunks(data, 12, "<") if name in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF", b"ANIM")
        )
    found = []
    with Image.open(path) as image:
        for page in range(image.n_frames):
            image.seek(page)
            tags = image.tag_v2
            for at, size in zip(tags[273], tags[279], strict=True):
                found.append(data[at : at + size])
    return b"".join(found)


def _scans(data: bytes) -> bytes:
    """Tables, frames and scans of a JPEG, and all that follows its end."""
    at, kept = 2, []
    while data[at + 1] != 0xDA:
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        if not (data[at + 1] == 0xFE or 0xE0 <= data[at + 1] <= 0xEF):
            kept.append(data[at:end])
        at = end
    return b"".join(kept) + data[at:]


def _chunks(data: bytes, at: int, order: str) -> list[tuple[bytes, bytes]]:
    found = []
    while at + 8 <= len(data):
        if order == ">":
            (size,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
            after = at + 12 + size
        else:
            name, (size,) = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])
            after = at + 8 + size + size % 2
        found.append((name, data[at + 8 : at + 8 + size]))
        at = after
    return found
